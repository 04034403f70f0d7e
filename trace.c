/*
 * trace: the last events of each kind.
 *
 * A ring a kind, so that a busy door does not wash away what the queue did. Records lie in a ring
 * whole, one behind the other, and begin anew at its start when the next one does not fit in front
 * of its end; the oldest make room. Nothing is allocated: the rings are static, and pages of memory
 * that no event has reached cost nothing.
 *
 * An ID may be the name of a file that we did not make: it is kept as printable ASCII, cut to
 * TRACE_ID_MAX, and looked for in the same form.
 */
#include "trace.h"

#include <stdalign.h>
#include <string.h>
#include <time.h>

#define TRACE_ALIGN 8U

/* Some ms late at the most, for a fraction of the time that it takes to ask for the exact one. */
#if defined(CLOCK_REALTIME_COARSE)
#define TRACE_CLOCK CLOCK_REALTIME_COARSE
#else
#define TRACE_CLOCK CLOCK_REALTIME
#endif

/* In front of the ID and the text of an event, each with its NUL. */
struct trace_record {
	uint64_t seq;
	int64_t at;
	uint16_t size; /* of all, aligned */
	uint16_t id_size;
	uint8_t level;
};

#define TRACE_RECORD_MAX \
	(sizeof(struct trace_record) + TRACE_ID_MAX + TRACE_TEXT_MAX + 2 + TRACE_ALIGN)

_Static_assert(TRACE_RECORD_MAX * 2 <= TRACE_RING_BYTES && TRACE_RECORD_MAX < UINT16_MAX,
               "TRACE_RING_BYTES is too small for TRACE_TEXT_MAX");

/* Records are in [first, end) or, when wrapped, in [first, wrap) and then [0, end). */
struct trace_ring {
	alignas(TRACE_ALIGN) char data[TRACE_RING_BYTES];
	size_t first, end, wrap;
	bool wrapped;
	uint64_t newest; /* its sequence number; 0: the ring is empty */
	/* Where the last reader was: the record with this number, 0 when there is none. It saves
	 * reading the ring from the start for each event. */
	uint64_t mark_seq;
	size_t mark;
};

static struct trace_ring trace_rings[LOG_KINDS];
static uint64_t trace_seq;

static const char *const trace_names[LOG_KINDS] = {
    [LOG_DAEMON] = "daemon",
    [LOG_SESSION] = "session",
    [LOG_DELIVERY] = "delivery",
    [LOG_QUEUE] = "queue",
};

static struct trace_record trace_read(const struct trace_ring *r, size_t at)
{
	struct trace_record rec;
	memcpy(&rec, r->data + at, sizeof rec);
	return rec;
}

/* Where the record behind this one is; there is one. */
static size_t trace_behind(const struct trace_ring *r, size_t at, size_t size)
{
	at += size;
	return r->wrapped && at == r->wrap ? 0 : at;
}

static void trace_drop_oldest(struct trace_ring *r)
{
	struct trace_record rec = trace_read(r, r->first);
	if (r->mark_seq == rec.seq)
		r->mark_seq = 0;
	r->first += rec.size;
	if (r->wrapped && r->first == r->wrap) {
		r->wrapped = false;
		r->first = 0;
	}
}

/* Makes room for a record; where it goes. */
static size_t trace_room(struct trace_ring *r, size_t size)
{
	for (;;) {
		if (!r->wrapped && r->end + size <= sizeof r->data)
			return r->end;
		if (!r->wrapped) {
			r->wrap = r->end;
			r->end = 0;
			r->wrapped = true;
		}
		if (r->end + size <= r->first)
			return r->end;
		trace_drop_oldest(r);
	}
}

static size_t trace_clean_id(const char *id, char out[TRACE_ID_MAX + 1])
{
	size_t n = 0;
	for (; n < TRACE_ID_MAX && id[n]; n++)
		out[n] = (char)(id[n] > ' ' && id[n] < 127 ? id[n] : '?');
	out[n] = '\0';
	return n;
}

/* How much of a text is kept: all, or what ends with a whole character. */
static size_t trace_cut(const char *text, size_t n)
{
	if (n <= TRACE_TEXT_MAX)
		return n;
	n = TRACE_TEXT_MAX - 3;
	while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

void trace_add(enum log_level level, enum log_kind kind, const char *id, const char *text, size_t n)
{
	struct trace_ring *r = &trace_rings[kind];
	struct timespec now;
	char name[TRACE_ID_MAX + 1];
	size_t id_size = trace_clean_id(id, name) + 1;
	size_t kept = trace_cut(text, n);
	size_t dots = kept < n ? 3 : 0;
	size_t size = sizeof(struct trace_record) + id_size + kept + dots + 1;
	size = (size + TRACE_ALIGN - 1) / TRACE_ALIGN * TRACE_ALIGN;
	clock_gettime(TRACE_CLOCK, &now);
	struct trace_record rec = {
	    .seq = ++trace_seq,
	    .at = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
	    .size = (uint16_t)size,
	    .id_size = (uint16_t)id_size,
	    .level = (uint8_t)level,
	};
	char *p = r->data + trace_room(r, size);
	memcpy(p, &rec, sizeof rec);
	p += sizeof rec;
	memcpy(p, name, id_size);
	p += id_size;
	memcpy(p, text, kept);
	memcpy(p + kept, "...", dots);
	p[kept + dots] = '\0';
	r->end += size;
	r->newest = rec.seq;
}

/* The first record of a ring behind seq, and of this ID. False when there is none. */
static bool trace_find(struct trace_ring *r, const char *id, uint64_t seq, struct trace_event *e)
{
	if (r->newest <= seq)
		return false;
	bool marked = r->mark_seq != 0 && r->mark_seq <= seq;
	size_t at = marked ? r->mark : r->first;
	for (;;) {
		struct trace_record rec = trace_read(r, at);
		const char *name = r->data + at + sizeof rec;
		if (rec.seq <= seq) {
			r->mark_seq = rec.seq;
			r->mark = at;
		} else if (!id || strcmp(id, name) == 0) {
			e->seq = rec.seq;
			e->at = rec.at;
			e->level = (enum log_level)rec.level;
			e->id = name;
			e->text = name + rec.id_size;
			return true;
		}
		if (rec.seq == r->newest)
			return false;
		at = trace_behind(r, at, rec.size);
	}
}

bool trace_next(unsigned kinds, const char *id, uint64_t *seq, struct trace_event *e)
{
	char name[TRACE_ID_MAX + 1];
	bool found = false;
	if (id)
		trace_clean_id(id, name);
	for (unsigned k = 0; k < LOG_KINDS; k++) {
		struct trace_event here = {.kind = (enum log_kind)k};
		if (!(kinds & TRACE_OF(k)) ||
		    !trace_find(&trace_rings[k], id ? name : NULL, *seq, &here))
			continue;
		if (!found || here.seq < e->seq)
			*e = here;
		found = true;
	}
	if (found)
		*seq = e->seq;
	return found;
}

uint64_t trace_newest(void)
{
	return trace_seq;
}

const char *trace_kind_name(enum log_kind kind)
{
	return trace_names[kind];
}

int trace_kind(const char *name)
{
	for (int k = 0; k < LOG_KINDS; k++)
		if (strcmp(trace_names[k], name) == 0)
			return k;
	return -1;
}
