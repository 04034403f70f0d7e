/*
 * spool_try: writes a message into a spool, with two attempts. For tests of what is on disk.
 *
 *   spool_try [-f] DATA_DIR FROM PREPEND ADDRESS...  < content
 *
 * An address "|..." is a pipe, "via:..." a forward by m1.example and m2.example.
 * -f: submitted, and with bytes beyond ASCII in its header. Prints the ID.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "loop.h"
#include "spool.h"

static int outcome;

static void on_done(void *arg, const char *id, const struct status *st)
{
	(void)arg;
	outcome = st->code == 250 ? 1 : -1;
	if (outcome > 0)
		printf("%s\n", id);
	else
		fprintf(stderr, "%d %s\n", st->code, st->text);
}

static int add_rcpt(struct envelope *env, const char *s)
{
	if (*s == '|')
		return envelope_add_rcpt(env, RCPT_PIPE, s + 1, "pipe@here.example", NULL);
	if (strncmp(s, "via:", 4) == 0)
		return envelope_add_rcpt(env, RCPT_FORWARD, s + 4, "fwd@here.example",
		                         "m1.example/m2.example");
	return envelope_add_to(env, s) || envelope_add_rcpt(env, RCPT_EMAIL, s, s, NULL);
}

static int write_message(struct spool *sp, struct envelope *env, const char *prepend,
                         struct status *st)
{
	char piece[777];
	ssize_t n;
	struct spool_writer *w = spool_begin(sp, env, st);
	if (!w)
		return -1;
	while ((n = read(STDIN_FILENO, piece, sizeof piece)) > 0)
		spool_append(w, piece, (size_t)n);
	if (*prepend)
		spool_prepend(w, prepend, strlen(prepend));
	if (env->header_8bit)
		spool_note_8bit_header(w);
	spool_commit(w, on_done, NULL);
	while (!outcome)
		if (loop_turn(100))
			return -1;
	return outcome > 0 ? 0 : -1;
}

static int write_attempts(struct spool *sp, struct envelope *env, struct status *st)
{
	struct status what;
	const size_t first[] = {0};
	size_t all[SPOOL_RCPTS_MAX];
	for (size_t i = 0; i < env->rcpt_count; i++)
		all[i] = i;
	status_set(&what, 451, "4.3.0", "not \"now\"");
	if (spool_attempt(sp, env, first, 1, RCPT_PENDING, &what, "mx.example [192.0.2.1]:25",
	                  false, st))
		return -1;
	status_set(&what, 250, "2.0.0", "\xc3\xbc");
	return spool_attempt(sp, env, all, env->rcpt_count, RCPT_SENT, &what, NULL, false, st);
}

int main(int argc, char **argv)
{
	struct envelope env = {.from = NULL};
	struct status st = {.code = 0};
	struct spool *sp;
	int rc = 1;
	if (argc > 1 && strcmp(argv[1], "-f") == 0) {
		env.submitted = env.header_8bit = true;
		argc--;
		argv++;
	}
	if (argc < 5 || loop_init())
		return 2;
	disk_init();
	sp = spool_open(argv[1], &st);
	if (!sp || envelope_set_from(&env, argv[2]))
		goto fail;
	for (int i = 4; i < argc; i++)
		if (add_rcpt(&env, argv[i]))
			goto fail;
	if (!write_message(sp, &env, argv[3], &st) && !write_attempts(sp, &env, &st))
		rc = 0;
fail:
	if (rc)
		fprintf(stderr, "spool_try: %d %s\n", st.code, st.text);
	envelope_clear(&env);
	if (sp)
		spool_close(sp);
	loop_done();
	return rc;
}
