# chasq: make, make run, make check, make install DESTDIR= PREFIX=, make CC=... PKG_CONFIG=...
# All variables can be given on the command line. Options: see config.h (make OPTIONS=-DNAME=VALUE).

VERSION = 0.1
PREFIX = /usr/local
SBINDIR = $(PREFIX)/sbin
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
DOCDIR = $(PREFIX)/share/doc/chasq
COMPDIR = $(PREFIX)/share/bash-completion/completions
DESTDIR =
PKG_CONFIG = pkg-config
CFLAGS = -Os -g
OPTIONS =
BUILD = build/main

# $(call cc_takes,FLAGS): the flags, if this compiler has them for its machine. Nothing is run but the compiler.
cc_takes = $(shell $(CC) $(CFLAGS) -Werror $(1) -include stdio.h -x c -S -o - /dev/null >/dev/null 2>&1 && echo '$(1)')

WARN := -Wall -Wextra -Wpedantic -Wundef -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes \
	-Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wvla \
	$(call cc_takes,-Walloca -Wduplicated-cond -Wduplicated-branches)

# What the compiler can do against mistakes that slipped through: no overflow of the stack unseen, no jump into the
# middle of a function, no write past the end where the library can tell the size. The last one needs optimization,
# is less than what a sanitizer sees, and is left to a distribution that has a word on it. Where compilers imitate the
# check of the stack's end (ARM, MIPS: 20 KB) it is left out: no frame can jump over what Linux keeps free there, 1 MB, and
# the compiler warns of one of FRAME_MAX bytes.
FRAME_MAX = 65536
HARDEN := -fstack-protector-strong -fPIE \
	$(if $(filter arm% mips%,$(shell $(CC) -dumpmachine 2>/dev/null)),,$(call cc_takes,-fstack-clash-protection)) \
	$(call cc_takes,-fcf-protection=full) $(call cc_takes,-mbranch-protection=standard)
ifeq (,$(findstring -fsanitize,$(CFLAGS))$(findstring _FORTIFY_SOURCE,$(CFLAGS))$(filter -O0,$(CFLAGS)))
ifneq (,$(findstring -O,$(CFLAGS)))
HARDEN += -U_FORTIFY_SOURCE $(or $(call cc_takes,-D_FORTIFY_SOURCE=3),-D_FORTIFY_SOURCE=2)
endif
endif

# Flash is small: no tables to unwind what never throws (a debugger has its own, a sanitizer wants these), what nothing
# calls left out, arrays without room between them, and the addresses to be filled in at start packed to bits where the C
# library of the target is known to read that.
ifeq (,$(findstring -fsanitize,$(CFLAGS)))
SMALL := -fno-asynchronous-unwind-tables -fno-unwind-tables -ffunction-sections -fdata-sections \
	$(call cc_takes,-malign-data=abi)
SMALL_LINK := -Wl,--gc-sections $(shell t=$$(mktemp) && \
	echo 'typedef char known[__GLIBC_PREREQ(2, 36) ? 1 : -1]; int main(void) { return 0; }' | \
	$(CC) $(CFLAGS) -fPIE -pie -include stdio.h -Wl,--fatal-warnings,-z,pack-relative-relocs -x c -o $$t - >/dev/null 2>&1 && \
	echo -Wl,-z,pack-relative-relocs; rm -f $$t)
else
# A sanitizer sees who uses what was given back.
SMALL := -DBUF_SPARE=0
endif
LIBS = libcares $(if $(findstring WITH_IDN=0,$(OPTIONS)),,libidn2)
STD = -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DCHASQ_VERSION='"$(VERSION)"'
# Of a compiler that can do more for size than -Os: 1 %, for no more instructions where it counts.
SMALLER := $(if $(filter -Os,$(CFLAGS)),$(call cc_takes,-Oz))
ALL_CFLAGS = $(STD) -I. $(WARN) $(HARDEN) $(SMALL) $(OPTIONS) $(shell $(PKG_CONFIG) --cflags $(LIBS)) $(CFLAGS) $(SMALLER)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack $(SMALL_LINK) $(LDFLAGS)
LDLIBS = $(shell $(PKG_CONFIG) --libs $(LIBS)) $(TLS_LIBS)

# Pages are for people: size before speed.
PAGES = $(basename $(wildcard monitor*.c httpd*.c)) stat_export stat_process
PAGES_CFLAGS = $(or $(SMALLER),-Os)

# What touches every byte of a message, or stands in a loop of such: a tenth of all instructions for a hundredth of the size.
FAST = addr buf bytes crc header io log smtpbody spool_write status text_literal
FAST_CFLAGS = $(if $(filter -Os -Oz,$(CFLAGS)),-O2)

# What a switched-off feature does without.
ifneq (,$(findstring -DWITH_MONITOR=0,$(OPTIONS)))
OFF = $(PAGES)
endif
ifneq (,$(findstring -DWITH_JOURNAL=0,$(OPTIONS)))
OFF += spool_journal spool_memory spool_replay spool_segment spool_filing spool_fresh
endif
ifneq (,$(findstring -DWITH_HOOKS=0,$(OPTIONS)))
OFF += hook smtpd_hook
endif
ifneq (,$(findstring -DWITH_TLS=0,$(OPTIONS)))
OFF += tls tls_certs tls_ticket tls_roots tls_chain tls_report srs
TLS_LIBS =
else
# Older versions of the library bring no .pc files.
TLS_LIBS = $(shell $(PKG_CONFIG) --libs mbedtls mbedx509 mbedcrypto 2>/dev/null || \
	echo -lmbedtls -lmbedx509 -lmbedcrypto)
endif

# The floors, from the ground up: a module includes headers of its own floor and of lower ones only.
FLOOR0 = memory buf bytes crc loop loop_end io log log_sink trace stat stat_export stat_process disk disk_aio text text_literal textfield dns dns_channel dns_addr dns_answer dns_hosts proc tls tls_lib tls_none tls_certs tls_ticket tls_roots tls_chain tls_report rate priv kdf base64 https_answer httpd httpd_request proxyproto sandbox sandbox_landlock sandbox_seccomp sandbox_openbsd proc_spawn
FLOOR1 = maillog status addr addr_idn smtp smtpreply smtpbody header envelope authres
FLOOR2 = user usersecret auth dovecot alias alias_system alias_walk hook resolve conf conf_watch conf_keys conf_take conf_reload confdomain confvalue conf_smarthost domaininfo domaininfo_file srs
FLOOR3 = spool spool_text spool_read spool_scan spool_write spool_journal spool_journal_none spool_memory spool_replay spool_segment spool_entry spool_journal_parts spool_filing spool_fresh courier local maildir lmtp dsn dsn_form smtpc smtpc_open remote remote_hosts remote_pool remote_tls remote_login masquerade queue queue_admin queue_index queue_lane queue_work queue_sender queue_dest hold spool_history dane https sts sts_policy sts_cache spf spf_term spf_record spf_macro
FLOOR4 = smtpd smtpd_log smtpd_reply smtpd_cmd smtpd_mail smtpd_rcpt smtpd_tls smtpd_auth smtpd_spf smtpd_hook listen listen_open listen_proxy control control_queue control_ask monitor_auth monitor_text monitor monitor_page monitor_style monitor_home monitor_queue monitor_action monitor_events monitor_chart
FLOOR5 = reload confine cli cli_ask cli_queue cli_daemon cli_table cli_send cli_user cli_probe cli_dialog cli_check cli_check_files cli_check_ports cli_check_dns
MODULES_HERE = $(filter-out chasq $(OFF),$(basename $(wildcard *.c)))
OBJECTS = $(MODULES_HERE:%=$(BUILD)/%.o)
LIBRARY = $(BUILD)/libchasq.a

# OVER=build/main: of a build with OPTIONS only the modules that these concern are made, the others come from that library.
# Concerned is what names an option, or a limit of config.h that is made of one, or includes a header that does.
ifneq (,$(OVER))
options := $(shell echo "$(subst ",,$(OPTIONS))" | grep -oE -e '-D[A-Z0-9_]+' | sed 's/^-D/-e /')
names := $(shell grep -w $(options) config.h | sed -n 's/^.define \([A-Z0-9_]*\) .*/-e \1/p')
files := $(shell ls *.c *.h | grep -vx config.h | xargs grep -lw $(names))
OBJECTS := $(filter $(OBJECTS),$(shell cd $(OVER) && grep -lwF $(files:%=-e %) *.d | sed 's,\(.*\)\.d$$,$(BUILD)/\1.o,'))
LIBRARY = $(OBJECTS) $(OVER)/libchasq.a
endif
UNIT = $(patsubst tests/unit/%.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
FAKES = $(patsubst tests/unit/%.c,$(BUILD)/%.o,$(wildcard tests/unit/fake_*.c))
FUZZ = $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
SHIMS = $(patsubst tests/tools/%.c,$(BUILD)/%.so,$(wildcard tests/tools/*shim.c))
TOOLS = $(patsubst tests/tools/%.c,$(BUILD)/%,$(filter-out %shim.c,$(wildcard tests/tools/*.c)))

all: chasq

# Of the build asked for, though that of another machine may be newer.
chasq: $(BUILD)/chasq FORCE
	@cmp -s $(BUILD)/chasq $@ || { cp $(BUILD)/chasq $@.new && mv -f $@.new $@; }

$(BUILD)/chasq: $(BUILD)/chasq.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libchasq.a: $(OBJECTS)
	rm -f $@
	$(AR) rcs $@ $(OBJECTS)

# Objects depend on the options: when the command line changes, or what is said above of some, so does this file. Without
# libraries nothing is begun.
$(BUILD)/flags: flags = $(PAGES) $(PAGES_CFLAGS) $(FAST) $(FAST_CFLAGS) $(CC) $(ALL_CFLAGS)
$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD)
	@$(PKG_CONFIG) --print-errors --exists $(LIBS)
	@echo '$(subst ','\'',$(flags))' | cmp -s - $@ || echo '$(subst ','\'',$(flags))' > $@

$(PAGES:%=$(BUILD)/%.o): private ALL_CFLAGS += $(PAGES_CFLAGS)
$(FAST:%=$(BUILD)/%.o): private ALL_CFLAGS += $(FAST_CFLAGS)
$(BUILD)/%.o: %.c $(BUILD)/flags
	$(CC) $(ALL_CFLAGS) -Wframe-larger-than=$(FRAME_MAX) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: tests/unit/%.c $(BUILD)/flags
	$(CC) $(ALL_CFLAGS) -Itests/unit -MMD -MP -c -o $@ $<

$(BUILD)/%.o: tests/fuzz/%.c $(BUILD)/flags
	$(CC) $(ALL_CFLAGS) -Itests/unit -MMD -MP -c -o $@ $<

$(BUILD)/%.o: tests/tools/%.c $(BUILD)/flags
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# A test that needs a fake names it in a line "link: fake_x.c"; the fake then wins over the library.
fakes_of = $(patsubst %.c,$(BUILD)/%.o,$(shell sed -n 's,.*link: *,,p' $(1)))

.SECONDEXPANSION:
$(BUILD)/test_%: $(BUILD)/test_%.o $$(call fakes_of,tests/unit/test_$$*.c) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

FUZZ_MAIN = $(BUILD)/main.o
$(BUILD)/fuzz_%: $(BUILD)/fuzz_%.o $$(call fakes_of,tests/fuzz/fuzz_$$*.c) $(FUZZ_MAIN) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

$(SHIMS): $(BUILD)/%.so: tests/tools/%.c
	@mkdir -p $(BUILD)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -fPIC -shared -o $@ $< -ldl

$(TOOLS): $(BUILD)/%: $(BUILD)/%.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

tests: $(BUILD)/chasq $(UNIT) $(FUZZ) $(TOOLS)

# With CFLAGS=-fsyntax-only: what this compiler says of them.
test-objects: $(UNIT:%=%.o) $(FUZZ:%=%.o) $(FAKES) $(FUZZ_MAIN) $(TOOLS:%=%.o)

# A first look: builds, starts on high ports with a configuration of its own, sends a message.
run:
	@sh tests/deps.sh build
	@echo "building (half a minute on a slow machine)"
	@$(MAKE) -s -j$$(nproc) chasq
	@sh tests/run.sh

check:
	@sh tests/deps.sh test
	@sh tests/check.sh

check-all: check
	@CHASQ_FULL=1 sh tests/check.sh
	@sh tests/chroot36.sh
	@sh tests/cross.sh
	@sh tests/musl.sh mips
	@sh tests/board.sh
	@sh tests/package_deb.sh
	@sh tests/coverage.sh corpus
	@sh tests/coverage.sh suite
	@sh tests/fuzz.sh 300

# On a router of 25 MB, emulated.
board:
	@sh tests/board.sh

# SECONDS each; TARGETS="smtpd spf" chooses.
SECONDS = 300
TARGETS =
fuzz:
	@sh tests/deps.sh test
	@sh tests/fuzz.sh $(SECONDS) $(TARGETS)

lint:
	@sh tests/deps.sh test
	@FLOORS='$(FLOOR0)|$(FLOOR1)|$(FLOOR2)|$(FLOOR3)|$(FLOOR4)|$(FLOOR5)' sh tests/lint.sh

# Bytes a module and an option; the program against its budget.
size:
	@CC='$(CC)' sh tests/size.sh
	@CC='$(CC)' sh tests/size.sh check

install: chasq
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8
	install -m 755 chasq $(DESTDIR)$(SBINDIR)/chasq
	ln -sf chasq $(DESTDIR)$(SBINDIR)/sendmail
	ln -sf ../sbin/chasq $(DESTDIR)$(BINDIR)/mailq
	ln -sf ../sbin/chasq $(DESTDIR)$(BINDIR)/newaliases
	install -m 644 man/chasq.8 $(DESTDIR)$(MANDIR)/man8/
	install -d $(DESTDIR)$(MANDIR)/man1
	ln -sf chasq.8 $(DESTDIR)$(MANDIR)/man8/sendmail.8
	for name in mailq newaliases; do ln -sf ../man8/chasq.8 $(DESTDIR)$(MANDIR)/man1/$$name.1; done
	install -m 644 man/chasq.conf.5 man/aliases.5 man/users.5 $(DESTDIR)$(MANDIR)/man5/
	sed 's,/usr/local/share/doc/chasq,$(DOCDIR),' man/hooks.5 > $(DESTDIR)$(MANDIR)/man5/hooks.5
	chmod 644 $(DESTDIR)$(MANDIR)/man5/hooks.5
	install -d $(DESTDIR)$(MANDIR)/man7
	sed 's,/usr/local/share/doc/chasq,$(DOCDIR),' man/chasq-metrics.7 > $(DESTDIR)$(MANDIR)/man7/chasq-metrics.7
	chmod 644 $(DESTDIR)$(MANDIR)/man7/chasq-metrics.7
	install -d $(DESTDIR)$(DOCDIR)/prometheus
	install -m 644 etc/prometheus/prometheus.yml etc/prometheus/chasq.rules.yml $(DESTDIR)$(DOCDIR)/prometheus/
	install -d $(DESTDIR)$(COMPDIR)
	install -m 644 etc/bash-completion/chasq $(DESTDIR)$(COMPDIR)/
	for name in mailq newaliases; do ln -sf chasq $(DESTDIR)$(COMPDIR)/$$name; done
	install -d $(DESTDIR)$(DOCDIR)/book
	install -m 644 docs/book/*.md $(DESTDIR)$(DOCDIR)/book/
	install -d $(DESTDIR)$(DOCDIR)/hooks
	install -m 644 etc/hooks/post-data $(DESTDIR)$(DOCDIR)/hooks/
	install -d $(DESTDIR)$(DOCDIR)/fail2ban/filter.d $(DESTDIR)$(DOCDIR)/fail2ban/jail.d
	install -m 644 etc/fail2ban/filter.d/chasq.conf $(DESTDIR)$(DOCDIR)/fail2ban/filter.d/
	install -m 644 etc/fail2ban/jail.d/chasq.conf $(DESTDIR)$(DOCDIR)/fail2ban/jail.d/

clean:
	rm -rf build run chasq

.SECONDARY:
.PHONY: all tests test-objects run check check-all board fuzz lint size install clean FORCE
FORCE:

-include $(wildcard $(BUILD)/*.d)
