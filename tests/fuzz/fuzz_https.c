/* fuzz_https: the answer to a GET, in pieces whose size the first byte says, and in one. Both must
 * come to the same end; odd first bytes end the stream cleanly. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "https_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONTENT_MAX 4096

static enum https_progress run(struct https_answer *a, const uint8_t *data, size_t size,
                               size_t step, bool clean)
{
	enum https_progress p = HTTPS_MORE;
	https_answer_init(a, "text/plain", CONTENT_MAX);
	for (size_t at = 0; at < size && p == HTTPS_MORE; at += step) {
		size_t n = size - at < step ? size - at : step;
		p = https_answer_feed(a, (struct slice){(const char *)data + at, n});
	}
	p = p == HTTPS_MORE ? https_answer_end(a, clean) : p;
	if (p == HTTPS_MORE || (p == HTTPS_BAD) != (a->why[0] != '\0') ||
	    a->content.len > CONTENT_MAX || a->line.len > HTTPS_HEADER_MAX)
		abort();
	if (p == HTTPS_WHOLE && a->code != 200)
		abort();
	return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct https_answer a, b;
	if (size == 0)
		return 0;
	enum https_progress whole = run(&a, data + 1, size - 1, size, data[0] & 1);
	enum https_progress parts = run(&b, data + 1, size - 1, data[0] + 1U, data[0] & 1);
	if (whole != parts || strcmp(a.why, b.why) != 0)
		abort();
	if (whole == HTTPS_WHOLE &&
	    (a.content.len != b.content.len ||
	     memcmp(buf_data(&a.content), buf_data(&b.content), a.content.len) != 0))
		abort();
	https_answer_clear(&a);
	https_answer_clear(&b);
	return 0;
}
