"""/metrics and /debug/vars: judged by promtool, by Prometheus itself, and by a strict parser of OpenMetrics;
the numbers compared with what was done. And the example of etc/prometheus."""

import contextlib
import json
import re
import shutil
import signal
import ssl
import subprocess
import urllib.parse
import urllib.request

import pytest
from prometheus_client.openmetrics import parser as openmetrics

import certs
import harness
import peers
from smtpclient import Client

EXAMPLE = harness.TREE / "etc/prometheus"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CAMEL = re.compile(r"^chasquid_\w+ metric names should be written in 'snake_case' not 'camelCase'$")


class Monitored:
    """A chasq with a monitoring page."""

    def __init__(self, chasq, **kwargs):
        self.http = harness.free_port()
        conf = {"monitoring_address": f"127.0.0.1:{self.http}", **kwargs.pop("conf", {})}
        self.chasq = chasq(conf=conf, **kwargs)
        self.port = self.chasq.port

    def get(self, path="/metrics", accept="*/*"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    def families(self):
        kind, text = self.get(accept=OPENMETRICS)
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return {f.name: f for f in openmetrics.text_string_to_metric_families(text)}

    def values(self):
        """{'name{label=value}': number} of all samples."""
        values = {}
        for family in self.families().values():
            for s in family.samples:
                label = "".join(f"{{{k}={v}}}" for k, v in s.labels.items())
                assert s.name + label not in values
                values[s.name + label] = s.value
        return values

    def vars(self):
        kind, text = self.get("/debug/vars")
        assert kind.startswith("application/json")
        return json.loads(text)


@pytest.fixture
def monitored(chasq):
    return lambda **kwargs: Monitored(chasq, **kwargs)


def promtool(*args, input=None, code=0):
    r = subprocess.run([peers.program("usr/bin/promtool"), *args], input=input, text=True, timeout=60,
                       capture_output=True, env=peers.library_env())
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    return r.stdout + r.stderr


def send(port, to="user@here.test", lines=1):
    """A message. Returns the replies' codes."""
    with Client(port) as c:
        codes = [c.cmd(line).code for line in
                 ("EHLO client.test", "MAIL FROM:<a@b.test>", f"RCPT TO:<{to}>", "DATA")]
        codes.append(c.cmd("Subject: x\r\n\r\n" + "text\r\n" * lines + ".").code)
        codes.append(c.cmd("QUIT").code)
    return codes


# ---- form -----------------------------------------------------------------------------------------


def test_promtool_finds_nothing_but_the_spelling_of_chasquid(monitored):
    kind, text = monitored().get()
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    said = promtool("check", "metrics", input=text, code=3).splitlines()
    assert len(said) > 10
    assert not [line for line in said if line and not CAMEL.match(line)]
    # It would have found more.
    assert "error" in promtool("check", "metrics", input=text + "# TYPE chasq_queue_length gauge\n", code=1)
    assert "chasq_x" in promtool("check", "metrics", input=text + "# TYPE chasq_x counter\nchasq_x 1\n",
                                 code=3)


def test_every_value_of_the_program_is_exported(monitored):
    server = monitored()
    families = server.families()
    json_names = set(server.vars())
    wanted = {}
    for source in harness.TREE.glob("*.c"):
        for kind, name in re.findall(r'STAT_(COUNTER|GAUGE|VECTOR|HISTOGRAM)\(\w+,\s*"([\w/]+)', source.read_text()):
            wanted[name] = kind
    assert len(wanted) > 50
    for name, kind in wanted.items():
        metric = name.replace("/", "_")
        family = families[metric if name.startswith("chasquid/") else "chasq_" + metric]
        assert family.samples and len(family.documentation) > 5, name
        if name.startswith("chasquid/"):
            assert family.type == "unknown"
        else:
            assert family.type == {"VECTOR": "counter"}.get(kind, kind.lower()), name
        assert name in json_names
    manual = (harness.TREE / "man/chasq-metrics.7").read_text()
    for name, family in families.items():
        name += "_total" if family.type == "counter" else ""
        assert re.search(rf"^\.It Ic {name}( |$)", manual, re.M), f"{name} is not in the manual"
    assert {"process_resident_memory_bytes", "process_open_fds", "process_max_fds",
            "process_start_time_seconds", "chasq_queue_oldest_seconds"} <= set(families)


def test_both_forms_and_json_say_the_same(monitored):
    server = monitored()
    send(server.port)
    server.chasq.wait_messages("user")

    def stable(values):
        return {k: v for k, v in values.items() if "process" not in k and "httpd" not in k}

    text = server.get()[1]
    older = {k.replace('="', "=").replace('"}', "}"): float(v) for k, v in
             (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}
    newer = server.values()
    assert stable(older) == stable(newer) and len(newer) > 150
    variables = server.vars()
    assert variables["chasquid/version"] and re.match(r"20\d\d-", variables["chasquid/sourceDateStr"])
    assert variables["chasquid/smtpIn/commandCount"]["EHLO"] == 1
    assert variables["queue/delay_seconds"]["count"] == variables["queue/delay_seconds"]["le"]["+Inf"] == 1


# ---- meaning ----------------------------------------------------------------------------------------


def test_numbers_are_what_was_done(monitored):
    server = monitored(domains={"here.test": {"users": ["user"], "aliases": "pipe: | cat\n"}})
    before = server.values()
    assert set(v for k, v in before.items() if k.startswith("chasquid_smtpIn_commandCount")) == {0}
    assert send(server.port) == [250, 250, 250, 354, 250, 221]
    assert send(server.port, lines=3000)[4] == 250
    assert send(server.port, "pipe@here.test")[4] == 250
    server.chasq.wait_messages("user", 2)
    server.chasq.wait_queue_empty()
    with Client(server.port) as c:
        assert c.cmd("XYZZY <script>").code == 500
        assert c.cmd('x"y{z} 1').code == 500
        assert c.cmd("EHLO client.test").code == 250
        assert c.cmd("MAIL FROM:<a@b.test>").code == 250
        assert c.cmd("RCPT TO:<nobody@here.test>").code == 550
        values = server.values()
    with Client(server.port) as c:
        assert c.cmd("GET / HTTP/1.1").code == 554
    with Client(server.port) as c:
        assert c.cmd("OPTIONS / HTTP/1.1").code == 554
    for name, want in {
        "chasquid_smtpIn_commandCount{command=unknown}": 2,
        "chasquid_smtpIn_commandCount{command=EHLO}": 4,
        "chasquid_smtpIn_commandCount{command=MAIL}": 4,
        "chasquid_smtpIn_commandCount{command=DATA}": 3,
        "chasquid_smtpIn_commandCount{command=QUIT}": 3,
        # No greeting: EHLO, MAIL, RCPT and the message of three sessions, two of the last.
        "chasquid_smtpIn_responseCodeCount{code=250}": 14,
        "chasquid_smtpIn_responseCodeCount{code=220}": 0,
        "chasquid_smtpIn_responseCodeCount{code=354}": 3,
        "chasquid_smtpIn_responseCodeCount{code=500}": 2,
        "chasquid_smtpIn_responseCodeCount{code=550}": 1,
        "chasquid_smtpIn_responseCodeCount{code=other}": 0,
        "chasquid_smtpIn_tlsCount{status=plain}": 3,
        "chasquid_smtpIn_tlsCount{status=tls}": 0,
        "chasquid_smtpIn_hookResults{result=post-data:skip}": 3,
        "chasquid_aliases_hookResults{result=resolve:success}": 0,
        "chasquid_queue_putCount": 3,
        "chasquid_queue_deliverAttempts{recipient_type=email:local}": 2,
        "chasquid_queue_deliverAttempts{recipient_type=pipe}": 1,
        "chasquid_queue_deliverAttempts{recipient_type=email:remote}": 0,
        "chasq_queue_rcpt_total{state=sent}": 3,
        "chasq_queue_delay_seconds_count": 3,
        "chasq_queue_delay_seconds_bucket{le=+Inf}": 3,
        "chasq_queue_length": 0,
        "chasq_queue_active_deliveries": 0,
        "chasq_smtpd_sessions": 1,
        # The harness has looked whether somebody listens.
        "chasq_smtpd_connections_total": 5,
        "chasq_smtpd_session_seconds_count": 4,
        "chasq_smtpd_message_bytes_count": 3,
        "chasq_smtpd_message_bytes_bucket{le=1000.0}": 2,
        "chasq_smtpd_message_bytes_bucket{le=100000.0}": 3,
        "chasq_certificate_expiry_seconds": 0,
    }.items():
        assert values[name] == want, (name, values[name], want)
    assert not [k for k in values if "script" in k or "XYZZY" in k]
    after = server.values()
    assert set(after) == set(before)
    assert after["chasquid_smtpIn_wrongProtoCount{command=GET}"] == 1
    assert after["chasquid_smtpIn_wrongProtoCount{command=other}"] == 1
    assert after["chasquid_smtpIn_commandCount{command=unknown}"] == 2


def test_age_of_the_queue_and_a_bounce(monitored):
    """Mail that cannot go anywhere waits; what is refused comes back."""
    server = monitored(conf={"trusted_network": "127.0.0.0/8"},
                       domains={"here.test": {"users": ["user"]}, "pipe.test": {"aliases": "no: | false\n"}})
    send(server.port, "somebody@far.test")
    server.chasq.wait_attempt()
    harness.wait_for(lambda: server.values()["chasq_queue_oldest_seconds"] >= 2, 10, "the queue to age")
    values = server.values()
    assert values["chasq_queue_length"] == 1 and values["chasq_queue_oldest_seconds"] <= 60
    assert values["chasq_queue_rcpt_total{state=deferred}"] == 1
    assert values["chasquid_queue_deliverAttempts{recipient_type=email:remote}"] == 1
    assert values["chasquid_queue_itemsWritten"] == 2
    assert values["chasq_queue_delay_seconds_count"] == 0
    with Client(server.port) as c:
        for line in ("EHLO client.test", "MAIL FROM:<user@here.test>", "RCPT TO:<no@pipe.test>", "DATA",
                     "Subject: x\r\n\r\n."):
            assert c.cmd(line).code < 400
    server.chasq.wait_messages("user")
    values = server.values()
    assert values["chasquid_queue_dsnQueued"] == 1 and values["chasq_queue_bounced_total"] == 1
    assert values["chasquid_queue_putCount"] == 3
    assert values["chasq_queue_rcpt_total{state=failed}"] == 1


def test_delivery_to_others(monitored, sink, dnsmasq):
    far = sink(address="127.0.0.2")
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    server = monitored(conf={"trusted_network": "127.0.0.0/8", "dns_servers": dns.server,
                             "remote_smtp_port": far.port})
    assert send(server.port, "somebody@far.test")[4] == 250
    server.chasq.wait_queue_empty()
    values = server.values()
    for name, want in {
        "chasquid_smtpOut_tlsCount{result=plain}": 1,
        "chasquid_smtpOut_tlsCount{result=tls:failed}": 0,
        "chasquid_smtpOut_securityLevelChecks{result=pass}": 1,
        "chasquid_smtpOut_securityLevelChecks{result=fail}": 0,
        "chasquid_smtpOut_sts_security{result=pass}": 0,
        "chasquid_sts_cache_fetches": 1,
        "chasquid_queue_deliverAttempts{recipient_type=email:remote}": 1,
        "chasq_remote_connections_total": 1,
        "chasq_remote_recipients_total{result=delivered}": 1,
        "chasq_queue_rcpt_total{state=sent}": 1,
    }.items():
        assert values[name] == want, (name, values[name], want)


@pytest.mark.parametrize("end,code,want,rejects", [
    ("echo X-Seen: yes", 250, "success", 0), ("echo nonsense", 250, "badoutput", 0),
    ("exit 20", 554, "fail", 1), ("exit 1", 451, "fail", 0)])
def test_results_of_a_hook(monitored, end, code, want, rejects):
    server = monitored(start=False)
    hook = server.chasq.dir / "hooks/post-data"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\n{end}\n")
    hook.chmod(0o755)
    server.chasq.start()
    assert send(server.port)[4] == code
    values = server.values()
    for result in ("skip", "success", "badoutput", "fail"):
        name = f"chasquid_smtpIn_hookResults{{result=post-data:{result}}}"
        assert values[name] == (result == want), name
    assert values["chasq_smtpd_post_data_rejects_total"] == rejects


def test_certificate_and_tls(monitored, box):
    """The certificate that runs out first counts, and mail over TLS does."""
    server = monitored(start=False)
    ends = []
    for name, days in (("a.test", 90), ("b.test", 3650), ("c.test", 9000)):
        cert = certs.make_cert(box.path, [name], days=days)
        cert.install(server.chasq.dir / "certs", name)
        date = subprocess.run(["openssl", "x509", "-in", cert.pem, "-noout", "-enddate"], check=True,
                              capture_output=True, text=True).stdout
        ends.append(ssl.cert_time_to_seconds(date.strip().removeprefix("notAfter=")))
    server.chasq.start()
    assert server.values()["chasq_certificate_expiry_seconds"] == ends[0]
    with Client(server.port) as c:
        c.cmd("EHLO client.test", 250)
        c.cmd("STARTTLS", 220)
        c.sock = ssl._create_unverified_context().wrap_socket(c.sock)
        for line in ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<user@here.test>", "DATA",
                     "Subject: x\r\n\r\n."):
            assert c.cmd(line).code < 400
    values = server.values()
    assert values["chasquid_smtpIn_tlsCount{status=tls}"] == 1
    assert values["chasq_smtpd_tls_sessions_total"] == 1
    # Gone is what is gone, later than this what is left.
    for left in (1, 2):
        shutil.rmtree(server.chasq.dir / "certs" / f"{'abc'[left - 1]}.test")
        server.chasq.process.kill(signal.SIGHUP)
        harness.wait_for(lambda: server.values()["chasq_certificate_expiry_seconds"] == ends[left], 40,
                         "the next certificate to be the first to run out")


# ---- Prometheus -------------------------------------------------------------------------------------


class Prometheus:
    """One that scrapes the targets; `scrape` adds to how."""

    def __init__(self, box, targets, **scrape):
        self.port = harness.free_port()
        config = box.path / "prometheus.yml"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(EXAMPLE / "chasq.rules.yml")],
            "scrape_configs": [{"job_name": "chasq", "static_configs": [{"targets": targets}], **scrape}]}))
        promtool("check", "config", config)
        self.process = box.process(
            [peers.program("usr/bin/prometheus"), f"--config.file={config}",
             f"--web.listen-address=127.0.0.1:{self.port}", f"--storage.tsdb.path={box.dir('tsdb')}",
             "--log.level=debug"], "prometheus", env=peers.library_env())
        harness.wait_for(self.is_ready, 30, lambda: "prometheus\n" + self.process.log()[-3000:], 0.1)

    def is_ready(self):
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        return False

    def api(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(query)
        with urllib.request.urlopen(url, timeout=10) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]

    def query(self, expression):
        """The numbers, by instance or label."""
        return [float(r["value"][1]) for r in self.api("query", query=expression)["result"]]

    def wait_value(self, expression, want, seconds=30):
        harness.wait_for(lambda: self.query(expression) == want, seconds,
                         lambda: f"{expression} = {want}, not {self.query(expression)}", 0.25)


def test_prometheus_scrapes_and_answers(monitored, box):
    server = monitored()
    p = Prometheus(box, [f"127.0.0.1:{server.http}"])
    p.wait_value('up{job="chasq"}', [1.0])
    p.wait_value("chasquid_queue_putCount", [0.0])
    for _ in range(3):
        send(server.port)
    server.chasq.wait_messages("user", 3)
    p.wait_value("chasquid_queue_putCount", [3.0])
    p.wait_value('chasquid_smtpIn_commandCount{command="DATA"}', [3.0])
    p.wait_value('chasq_queue_rcpt_total{state="sent"}', [3.0])
    p.wait_value("increase(chasq_smtpd_messages_total[1m]) > bool 0", [1.0])
    p.wait_value("histogram_quantile(0.9, chasq_queue_delay_seconds_bucket) <= bool 1", [1.0])
    p.wait_value('process_resident_memory_bytes{job="chasq"} > bool 1e6', [1.0])
    # Prometheus drops what it does not understand of a scrape, and the whole of one that is malformed.
    assert p.query("scrape_samples_scraped") == [len(server.values())]
    types = p.api("metadata")
    assert types["chasquid_queue_putCount"][0]["type"] == "unknown"
    assert types["chasq_queue_delay_seconds"][0]["type"] == "histogram"
    # Only OpenMetrics names the family without the suffix.
    assert types["chasq_smtpd_messages"][0]["type"] == "counter"
    target = p.api("targets")["activeTargets"][0]
    assert target["health"] == "up" and target["lastError"] == ""
    # The example's rules run, and what is no trouble is not told.
    groups = p.api("rules")["groups"]
    harness.wait_for(lambda: all(r["health"] == "ok" for g in p.api("rules")["groups"] for r in g["rules"]),
                     20, lambda: str(groups), 0.25)
    assert [a["labels"]["alertname"] for a in p.api("alerts")["alerts"]] == []


# ---- the example --------------------------------------------------------------------------------------


def test_the_example_is_accepted_and_names_what_there_is(monitored, box):
    for name in ("prometheus.yml", "chasq.rules.yml"):
        shutil.copy(EXAMPLE / name, box.path)
    promtool("check", "config", box.path / "prometheus.yml")
    promtool("check", "rules", box.path / "chasq.rules.yml")
    there = {k.split("{")[0] for k in monitored().values()}
    rules = (EXAMPLE / "chasq.rules.yml").read_text()
    used = set(re.findall(r"\b(?:chasq_|chasquid_|process_)\w+", rules))
    assert len(used) > 8 and used <= there, used - there


RULE_TESTS = """
rule_files: [chasq.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'up{job="chasq", instance="dead"}', values: '0x120'}
      - {series: 'up{job="chasq", instance="well"}', values: '1x120'}
      - {series: 'chasq_queue_oldest_seconds{instance="old"}', values: '14401x120'}
      - {series: 'chasq_queue_oldest_seconds{instance="well"}', values: '14000x120'}
      - {series: 'chasq_queue_length{instance="long"}', values: '201x120'}
      - {series: 'chasq_spool_failed_total{instance="full"}', values: '0x110 1 2 3 4 5 6 7 8 9 10'}
      - {series: 'chasq_spool_failed_total{instance="well"}', values: '7x120'}
      - {series: 'chasq_spool_damaged_total{instance="rotten"}', values: '0x100 1x20'}
      - {series: 'chasq_certificate_expiry_seconds{instance="soon"}', values: '1000000x120'}
      - {series: 'chasq_certificate_expiry_seconds{instance="later"}', values: '2000000x120'}
      - {series: 'chasq_certificate_expiry_seconds{instance="none"}', values: '0x120'}
      - {series: 'process_open_fds{job="chasq", instance="busy"}', values: '900x120'}
      - {series: 'process_max_fds{job="chasq", instance="busy"}', values: '1024x120'}
      - {series: 'chasquid_smtpIn_hookResults{result="post-data:fail", instance="hook"}', values: '0+2x120'}
      - {series: 'chasq_smtpd_post_data_rejects_total{instance="hook"}', values: '0+1x120'}
      - {series: 'chasquid_smtpIn_hookResults{result="post-data:fail", instance="spam"}', values: '0+2x120'}
      - {series: 'chasq_smtpd_post_data_rejects_total{instance="spam"}', values: '0+2x120'}
      - {series: 'chasquid_smtpOut_securityLevelChecks{result="fail", instance="mitm"}', values: '0+1x120'}
      - {series: 'chasquid_smtpOut_securityLevelChecks{result="pass", instance="well"}', values: '0+1x120'}
    promql_expr_test:
      - expr: count by (alertname, instance) (ALERTS{alertstate="firing"})
        eval_time: 118m
        exp_samples:
"""


def test_the_alerts_fire_when_they_should(box):
    wanted = {"ChasqDown": "dead", "ChasqQueueOld": "old", "ChasqQueueLong": "long", "ChasqDiskFull": "full",
              "ChasqDamagedFiles": "rotten", "ChasqCertificateExpires": "soon",
              "ChasqFewDescriptorsLeft": "busy", "ChasqHookFails": "hook", "ChasqWeakerThanBefore": "mitm"}
    shutil.copy(EXAMPLE / "chasq.rules.yml", box.path)
    test = box.path / "test.yml"

    def run(expected, code):
        test.write_text(RULE_TESTS + "".join(
            f"          - {{labels: '{{alertname=\"{a}\", instance=\"{i}\"}}', value: 1}}\n"
            for a, i in expected.items()))
        return promtool("test", "rules", test, code=code)

    assert set(re.findall(r"alert: (\w+)", (EXAMPLE / "chasq.rules.yml").read_text())) == set(wanted)
    run(wanted, 0)
    del wanted["ChasqDown"]
    assert "ChasqDown" in run(wanted, 1)
