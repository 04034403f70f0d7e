/*
 * config.h: every limit, time-out, table, default path and feature switch of chasq.
 *
 * Each option can be overridden with -DNAME=VALUE. Switches are 0 or 1. What differs from board to
 * board (names, addresses, domains, users) is not here: it is read at run time; see chasq.conf(5).
 */
#ifndef CONFIG_H
#define CONFIG_H

/* ---- features ----------------------------------------------------------------------------- */

/* TLS by mbedTLS (STARTTLS and implicit TLS both ways, AUTH, hashed passwords): about 47 KB of code
 * here, and the library. Without it only plain SMTP is spoken. */
#ifndef WITH_TLS
#define WITH_TLS 1
#endif

/* The monitoring page, its dumps and metrics over HTTP: 50 KB on amd64, of which the stylesheet has
 * 4. Without it monitoring_address is refused; the control socket tells and does the same. */
#ifndef WITH_MONITOR
#define WITH_MONITOR 1
#endif

/* New messages in a journal before they are files (see JOURNAL_BYTES): 16 KB of code.
 * Without it every message is a file at once. */
#ifndef WITH_JOURNAL
#define WITH_JOURNAL 1
#endif

/* SPF for mail that comes in (RFC 7208), and with it the memory of who has shown TLS: 16 KB on
 * amd64. Without it no sender is checked, and no domain's mail is refused for coming in the clear.
 */
#ifndef WITH_SPF
#define WITH_SPF 1
#endif

/* MTA-STS for mail that goes out (RFC 8461), with the HTTPS client that fetches policies: 20 KB.
 * Without it, DANE and what a domain has shown before are what demands TLS. */
#ifndef WITH_STS
#define WITH_STS 1
#endif

/* Landlock and seccomp, or pledge and unveil: 7 KB. Without them `sandbox: true` is refused;
 * memory is closed to other programs and there are no core files all the same. */
#ifndef WITH_SANDBOX
#define WITH_SANDBOX 1
#endif

/* Local delivery by LMTP: 4 KB. Without it lmtp_address is refused. */
#ifndef WITH_LMTP
#define WITH_LMTP 1
#endif

/* Users who log in to send (AUTH, RFC 4954), which takes TLS: 12 KB, with what WITH_DOVECOT has.
 * Without it the addresses for submission are refused; users files still say who receives mail. */
#ifndef WITH_AUTH
#define WITH_AUTH 1
#endif

/* Passwords and users of Dovecot: 4 KB. Without it dovecot_auth is refused. */
#ifndef WITH_DOVECOT
#define WITH_DOVECOT 1
#endif

/* The PROXY protocol: 3 KB. Without it haproxy_incoming is refused. */
#ifndef WITH_PROXY
#define WITH_PROXY 1
#endif

/* Programs of the operator's in hooks/, see hooks(5): 8 KB. Without it a configuration that has
 * some is refused. */
#ifndef WITH_HOOKS
#define WITH_HOOKS 1
#endif

/* sendmail for this machine's own programs, and what it talks to at the control socket: 11 KB. */
#ifndef WITH_SENDMAIL
#define WITH_SENDMAIL 1
#endif

/* The operator's commands show, hold, release, remove, resolve, domaininfo, status, trace, config,
 * passwd and user: 26 KB. queue (mailq), flush, reload (newaliases) and stop are always there. */
#ifndef WITH_OPERATOR
#define WITH_OPERATOR 1
#endif

/* The commands check and dialog, which look for faults of configuration, DNS, ports and other
 * servers: 36 KB. Not part of the server. */
#ifndef WITH_CHECK
#define WITH_CHECK 1
#endif

/* ---- bytes -------------------------------------------------------------------------------- */

/* 1: bytes are looked at 16 a step where the compiler may count on that (x86 of 64 bits, ARM with
 * NEON): a third of the instructions; 500 bytes. */
#ifndef BYTES_WIDE
#define BYTES_WIDE 1
#endif

/* ---- crc ---------------------------------------------------------------------------------- */

/* 1: checksums by the processor, where it says at run time that it can (x86 and ARM of 64 bits): a
 * tenth of the instructions, or less; 600 bytes. */
#ifndef CRC_MACHINE
#define CRC_MACHINE 1
#endif

/* ---- buf ---------------------------------------------------------------------------------- */

/* An emptied buffer keeps this much memory for its next use, in bytes, and frees more than that:
 * an idle session must not hold what its last message needed. */
#ifndef BUF_KEEP
#define BUF_KEEP 512
#endif

/* One block of memory of exactly this size is kept when it is given back, in bytes: what a session
 * reads into. 0: none, so that whoever uses it afterwards is found out. */
#ifndef BUF_SPARE
#define BUF_SPARE 8192
#endif

/* What a buffer begins with, in bytes: a line of a dialogue fits. */
#ifndef BUF_FIRST
#define BUF_FIRST 256
#endif

/* From this size on, in bytes, a buffer grows by a quarter instead of doubling: a large one has
 * little more memory than content. */
#ifndef BUF_LARGE
#define BUF_LARGE 65536
#endif

/* ---- memory ------------------------------------------------------------------------------- */

/* From so many bytes on a block of memory has pages of its own, with glibc: during the start, when
 * tables are made, and later on. That costs two system calls and a page fault a block. */
#ifndef MEMORY_TABLE_MIN
#define MEMORY_TABLE_MIN 16384
#endif
#ifndef MEMORY_LARGE_MIN
#define MEMORY_LARGE_MIN 131072
#endif

/* So long after something was freed, what the allocator holds goes back to the system, in ms: less
 * would give back what the next session takes. */
#ifndef MEMORY_TRIM_MS
#define MEMORY_TRIM_MS 2000
#endif

/* ---- loop --------------------------------------------------------------------------------- */

/* How long a batch (group commit) waits for sockets to fall silent, in microseconds, with a disk
 * that flushes faster than that. Measured: twenty times the flush here, and a flush still is a
 * fortieth of a message; an unloaded server never waits. */
#ifndef LOOP_BATCH_US
#define LOOP_BATCH_US 2000
#endif

/* With a slower disk it waits as long as the last flush took, but no longer than this, in us. 100
 * busy sessions with flushes of 5 ms: 90 of them in a flush, where 1 ms gathers a third. */
#ifndef DISK_BATCH_MAX_US
#define DISK_BATCH_MAX_US 20000
#endif

/* ---- log ---------------------------------------------------------------------------------- */

/* The longest line, in bytes of stack; what is longer is cut. */
#ifndef LOG_LINE_MAX
#define LOG_LINE_MAX 1024
#endif

/* 1: there are counters: 8 KB of names and texts. Only the monitor and the operator's commands show
 * them. */
#ifndef STAT_KEPT
#define STAT_KEPT (WITH_MONITOR || WITH_OPERATOR)
#endif

/* Events up to this level are kept as traces, even where the log does not take them (enum
 * log_level: 0 errors, 1 info, 2 debug; -1: none). Debug costs the formatting of a line a command
 * and state. Only those two show them. */
#ifndef LOG_TRACE_LEVEL
#define LOG_TRACE_LEVEL (WITH_MONITOR || WITH_OPERATOR ? 2 : -1)
#endif

/* The system's log, a datagram socket. */
#ifndef LOG_SYSLOG_PATH
#define LOG_SYSLOG_PATH "/dev/log"
#endif

/* Lines that the system's log, or who reads a stream, does not take at once wait, in bytes of
 * memory for each of log and mail log while there are any; what is more is lost, and counted. */
#ifndef LOG_QUEUE_BYTES
#define LOG_QUEUE_BYTES 16384
#endif

/* Lines for a file or stream of one turn of the loop are written together, up to so many bytes; a
 * pipe takes so many at once (PIPE_BUF). Memory for each of log and mail log. */
#ifndef LOG_TURN_BYTES
#define LOG_TURN_BYTES 4096
#endif

/* A system's log that is not there is tried again with a line, at most this often, in ms; and
 * without one after as long, then twice as long each time up to this: each try wakes the machine.
 */
#ifndef LOG_RETRY_MS
#define LOG_RETRY_MS 1000
#endif
#ifndef LOG_RETRY_MAX_MS
#define LOG_RETRY_MAX_MS 60000
#endif

/* ---- trace -------------------------------------------------------------------------------- */

/* What the events of a kind may take, in bytes; there are four kinds (sessions, deliveries, queue,
 * the rest). An event takes about 100 bytes, so this holds the last 10 to 20 sessions. Memory that
 * was never reached costs nothing. */
#ifndef TRACE_RING_BYTES
#define TRACE_RING_BYTES 32768
#endif

/* The longest text of an event, and the longest ID, in bytes; what is longer is cut. */
#ifndef TRACE_TEXT_MAX
#define TRACE_TEXT_MAX 512
#endif
#ifndef TRACE_ID_MAX
#define TRACE_ID_MAX 63
#endif

/* What of a command's argument stands in a session's trace, in bytes. */
#ifndef SMTPD_LOG_ARGS_MAX
#define SMTPD_LOG_ARGS_MAX 200
#endif

/* ---- maillog ------------------------------------------------------------------------------ */

/* The longest line of the mail log, in bytes of stack; of longer lists of recipients it names the
 * first ones and tells how many there are more. */
#ifndef MAILLOG_LINE_MAX
#define MAILLOG_LINE_MAX 2048
#endif

/* ---- disk --------------------------------------------------------------------------------- */

/* Flushes of files and directories that the kernel makes at a time while the loop goes on, where it
 * can (Linux since 4.18 with CONFIG_AIO). Each takes a thread of the kernel until it is over, some
 * 16 KB of its memory; more were not faster, and with a flush of 5 ms 16 allow 1,600 files a
 * second. 0: the loop waits for all of them. */
#ifndef DISK_AIO_MAX
#define DISK_AIO_MAX 32
#endif

/* ---- io ----------------------------------------------------------------------------------- */

/* How long a stream that was ended waits for the peer to close its side, in ms; and how long it
 * may take to send what is left. RFC 9293 3.6 allows a bound; the last reply must arrive. */
#ifndef IO_LINGER_MS
#define IO_LINGER_MS 2000
#endif

/* One read from a socket, in bytes: big enough for speed in DATA, small enough for the stack of a
 * router, and the bounded step of a session in a turn. */
#ifndef IO_READ_STEP
#define IO_READ_STEP 16384
#endif

/* The same for content of a message, which is gone when the read is served; and how many streams
 * may have left something of such a read that is more than they should hold (commands behind the
 * content): IO_READ_WIDE bytes of memory each. */
#ifndef IO_READ_WIDE
#define IO_READ_WIDE 65536
#endif
#ifndef IO_OVERFULL_MAX
#define IO_OVERFULL_MAX 4
#endif

/* ---- text --------------------------------------------------------------------------------- */

/* Input a text reader holds, in bytes: one for each spool file being read. One read() each. */
#ifndef TEXT_READ_BUF
#define TEXT_READ_BUF 2048
#endif

/* Longest field name, number or enum name with its NUL, and longest error message, in bytes. */
#ifndef TEXT_TOKEN_MAX
#define TEXT_TOKEN_MAX 64
#endif
#ifndef TEXT_ERROR_MAX
#define TEXT_ERROR_MAX 192
#endif

/* Messages and lists inside each other: one byte each; bounds recursion. Our schemas need 4. */
#ifndef TEXT_DEPTH_MAX
#define TEXT_DEPTH_MAX 32
#endif

/* Longest string, in bytes, and most elements, of a field whose table sets no limit of its own:
 * keeps a broken file from eating the memory. */
#ifndef TEXT_STRING_MAX
#define TEXT_STRING_MAX 4096
#endif
#ifndef TEXT_REPEATED_MAX
#define TEXT_REPEATED_MAX 1000
#endif

/* ---- spool -------------------------------------------------------------------------------- */

/* An ID, in bytes: ours have 11; those of files that chasquid wrote are taken as they are. */
#ifndef SPOOL_ID_MAX
#define SPOOL_ID_MAX 63
#endif

/* Recipients of one message after aliases: bounds an envelope in memory, about 100 bytes each and
 * 600 while it is being delivered. RFC 5321 4.5.3.1.8 asks for 100 at least. */
#ifndef SPOOL_RCPTS_MAX
#define SPOOL_RCPTS_MAX 1000
#endif

/* The hosts of a `via` alias, joined, in bytes. */
#ifndef SPOOL_VIA_MAX
#define SPOOL_VIA_MAX 1023
#endif

/* The head of a message file: two addresses a recipient. Memory while it is written, in bytes. */
#ifndef SPOOL_HEAD_MAX
#define SPOOL_HEAD_MAX (SPOOL_RCPTS_MAX * 2048)
#endif

/* A literal of content in a message file, in bytes: longer lines are written as several. Memory a
 * session in DATA. */
#ifndef SPOOL_LITERAL_MAX
#define SPOOL_LITERAL_MAX 1000
#endif

/* Header lines that are put before the content after it was written (hooks, signatures), bytes. */
#ifndef SPOOL_PREPEND_MAX
#define SPOOL_PREPEND_MAX 65536
#endif

/* A writer's buffer: the least size of its write() calls, in bytes; half of what a session in DATA
 * takes. And the most, which is there while a piece of content is written: what IO_READ_WIDE
 * becomes. */
#ifndef SPOOL_WRITE_BUF
#define SPOOL_WRITE_BUF 4096
#endif
#ifndef SPOOL_WRITE_MAX
#define SPOOL_WRITE_MAX 81920
#endif

/* Steps of the start-up scan in one turn of the loop, each of which reads a name, or some 4 KB of a
 * file, in us in all: a turn must stay short, also where a read takes milliseconds. */
#ifndef SPOOL_SCAN_STEP
#define SPOOL_SCAN_STEP 128
#endif
#ifndef SPOOL_SCAN_US
#define SPOOL_SCAN_US 5000
#endif

/* Files that the scan opens in the order of their inodes, 16 bytes each while it runs. */
#ifndef SPOOL_SCAN_SORT
#define SPOOL_SCAN_SORT 4096
#endif

/* Space that stays free on the disk, in bytes: logs, the system and our own bounces need some. */
#ifndef SPOOL_FREE_MIN
#define SPOOL_FREE_MIN (4 * 1024 * 1024)
#endif

/* While there is so much more space than a message needs, in bytes, it is looked at once in so many
 * ms, not for each message: a system call each. */
#ifndef SPOOL_PLENTY
#define SPOOL_PLENTY (256 * 1024 * 1024)
#endif
#ifndef SPOOL_PLENTY_MS
#define SPOOL_PLENTY_MS 100
#endif

/* Content is read from a file in pieces of so many bytes: memory for each delivery of a message
 * that is larger. At least 8192. */
#ifndef SPOOL_READ_AHEAD
#define SPOOL_READ_AHEAD 16384
#endif

/* How often free space is looked at while a message is written, in bytes of its file. */
#ifndef SPOOL_CHECK_STEP
#define SPOOL_CHECK_STEP (1024 * 1024)
#endif

/* Blocks of 4 KB with NUL bytes behind the end mark of a message's file (attempts that a power cut
 * lost): with more, the file is damaged. The search for the mark reads at least so much. */
#ifndef SPOOL_ROTTEN_MAX
#define SPOOL_ROTTEN_MAX 256
#endif

/* How long a start waits for another daemon to let go of the queue, in ms: one that was told to
 * stop ends its deliveries and its journal first (CHASQ_STOP_MS, JOURNAL_STOP_MS). */
#ifndef SPOOL_LOCK_MS
#define SPOOL_LOCK_MS 8000
#endif

/* Records of attempts, in files of messages, that wait for their flush while the loop goes on; each
 * has a descriptor. Further ones are flushed by the loop, which so goes no faster than the disk. */
#ifndef SPOOL_RECORDS_MAX
#define SPOOL_RECORDS_MAX 32
#endif

/* Files kept in queue/damaged/: enough to learn what happened, not enough to fill a flash. */
#ifndef SPOOL_DAMAGED_MAX
#define SPOOL_DAMAGED_MAX 100
#endif

/* Each file of the journal (a segment), in bytes, all of it written once when it is made; twice
 * JOURNAL_MESSAGE_MAX at least. The first is made before the first start is over, if SPOOL_FREE_MIN
 * is left; so is the second. 0: no journal; one that is found becomes files. */
#ifndef JOURNAL_BYTES
#define JOURNAL_BYTES (2 * 1024 * 1024)
#endif

/* The most segments, 2 to 64: made when a burst asks for them; 20,000 messages of 1 KB need 20.
 * Disk; 112 bytes of memory each of the 64 there may be. */
#ifndef JOURNAL_SEGMENTS
#define JOURNAL_SEGMENTS 24
#endif

/* Segments beyond the second are made while all of them together are at most 1/JOURNAL_SHARE of
 * what is free on the disk. */
#ifndef JOURNAL_SHARE
#define JOURNAL_SHARE 10
#endif

/* A new segment is given to the disk in pieces of so many bytes (a multiple of 64 KB), with a pause
 * of so many us (less than a second) behind each: a flush of the journal that comes meanwhile waits
 * for a piece or two, not for all of it. 100 MB a second; 35 where a flush takes 5 ms. All at once
 * when no segment is free. */
#ifndef JOURNAL_PIECE
#define JOURNAL_PIECE 262144
#endif
#ifndef JOURNAL_PIECE_US
#define JOURNAL_PIECE_US 2000
#endif

/* So many segments stay when there is nothing to do, the others go after so long, in ms: a new one
 * is written in full, which costs flash. */
#ifndef JOURNAL_KEEP
#define JOURNAL_KEEP 3
#endif
#ifndef JOURNAL_IDLE_MS
#define JOURNAL_IDLE_MS (10 * 60 * 1000)
#endif

/* Messages in the journal; when 7/8 of them are there the oldest become files, when all are there
 * new ones are files at once. 80 bytes of memory each, beside what the queue has. */
#ifndef JOURNAL_ENTRIES
#define JOURNAL_ENTRIES 32768
#endif

/* The largest message that goes into the journal, in bytes of its file (a tenth more than the
 * message has): larger ones are files at once. A picture of 180 KB is 256 KB. Memory a session in
 * DATA, as it grows, while the pool has it. */
#ifndef JOURNAL_MESSAGE_MAX
#define JOURNAL_MESSAGE_MAX (JOURNAL_BYTES / 8)
#endif

/* Memory for messages that are just coming in and may go to the journal, and for attempts to
 * deliver those that are there, in bytes. When it is full, they are files at once; a message may
 * take half of what the others have left. */
#ifndef JOURNAL_POOL
#define JOURNAL_POOL (2 * 1024 * 1024)
#endif

/* After so long a message in the journal becomes a file, in ms: what is not delivered by then waits
 * for something. */
#ifndef JOURNAL_AGE_MS
#define JOURNAL_AGE_MS 30000
#endif

/* Of so many messages in the journal, those that came last, envelope and mark are kept in memory
 * while no attempt has been recorded, if the head of the file is no longer than this, in bytes:
 * delivered at once, they need not be read back and parsed. 190 bytes each, and while there is such
 * a message about as much as the head is long, and 300 more. */
#ifndef SPOOL_FRESH_MAX
#define SPOOL_FRESH_MAX 128
#endif
#ifndef SPOOL_FRESH_HEAD
#define SPOOL_FRESH_HEAD 1024
#endif

/* A message that is still there after so long gives its place to a newer one, in ms. */
#ifndef SPOOL_FRESH_MS
#define SPOOL_FRESH_MS 2000
#endif

/* Records of attempts a message may get before it becomes a file, in bytes. */
#ifndef JOURNAL_ATTEMPTS_MAX
#define JOURNAL_ATTEMPTS_MAX 16384
#endif

/* How long messages of the journal are made files of at a time, in us: sessions wait meanwhile. One
 * that is begun is finished. And for how long they come first then, in ms, while the journal has
 * place for new messages; when it has little, for as long as the slice takes. */
#ifndef JOURNAL_SLICE_US
#define JOURNAL_SLICE_US 1000
#endif
#ifndef JOURNAL_PAUSE_MS
#define JOURNAL_PAUSE_MS 4
#endif

/* Files of so many bytes and more are begun to be written by the disk when they are made, not all
 * together when they are flushed. A system call each. */
#ifndef JOURNAL_EARLY
#define JOURNAL_EARLY 32768
#endif

/* So many of these files are flushed together. */
#ifndef JOURNAL_FILES_MAX
#define JOURNAL_FILES_MAX 512
#endif

/* At an orderly end messages are made files for so long, in ms, and JOURNAL_FILES_MAX of them are
 * flushed; the rest stays in the journal, which is as safe, but only we can read it. */
#ifndef JOURNAL_STOP_MS
#define JOURNAL_STOP_MS 1000
#endif

/* When a file could not be made of a message, or a journal that was given up could not be removed:
 * the next try, in ms. */
#ifndef JOURNAL_RETRY_MS
#define JOURNAL_RETRY_MS 5000
#endif

/* When a segment could not be made or written: the next try, in ms. */
#ifndef JOURNAL_AGAIN_MS
#define JOURNAL_AGAIN_MS 60000
#endif

/* ---- queue -------------------------------------------------------------------------------- */

/* { age of the message in s, wait in s }: the first row whose age is not reached is taken, the last
 * row for all the rest. Early tries are for greylisting and short troubles, later ones for dead
 * uplinks. */
#ifndef QUEUE_RETRY_TABLE
#define QUEUE_RETRY_TABLE                         \
	{                                         \
		{60, 60}, {300, 300}, {600, 600}, \
		{                                 \
			INT64_MAX, 1200           \
		}                                 \
	}
#endif

/* Added at random, in s: messages that failed together must not come back together. */
#ifndef QUEUE_RETRY_JITTER
#define QUEUE_RETRY_JITTER 60
#endif

/* Messages started in one turn of the loop: as many as a hundred busy sessions bring in one, or the
 * newest lose their place in memory (SPOOL_FRESH_MAX) before it is their turn, and have to be read
 * back. No further one when that took so many us: they may be read from a slow disk. */
#ifndef QUEUE_STEP
#define QUEUE_STEP 32
#endif
#ifndef QUEUE_STEP_US
#define QUEUE_STEP_US 5000
#endif

/* When this version was released, in s since 1970 (2026-11-01). A clock that says less is wrong:
 * boards without a battery boot in 1970. */
#ifndef CLOCK_RELEASE
#define CLOCK_RELEASE 1793491200
#endif

/* Seconds between what was last done with a message and the clock at a start, above which the clock
 * is not believed and the message counts as new: batteries of clocks run out, and a year that is
 * wrong by ten would end all that waits. A machine that was off for so long gives its old mail
 * another give_up_send_after. */
#ifndef CLOCK_LEAP
#define CLOCK_LEAP (30 * 86400)
#endif

/* Messages being delivered at the same time, and deliveries (connections, children) in all: each
 * costs one or two descriptors and up to 56 KB. */
#ifndef QUEUE_ACTIVE_MAX
#define QUEUE_ACTIVE_MAX 64
#endif
#ifndef QUEUE_DELIVERIES_MAX
#define QUEUE_DELIVERIES_MAX 40
#endif

/* Of these, to other hosts: hosts that do not answer hold their places for minutes, and local mail
 * must not wait for them. Less than QUEUE_DELIVERIES_MAX and QUEUE_ACTIVE_MAX. */
#ifndef QUEUE_REMOTE_MAX
#define QUEUE_REMOTE_MAX 30
#endif

/* Deliveries at the same time to a place of which nothing is known yet: each success doubles them,
 * up to REMOTE_DOMAIN_PARALLEL, each failure to reach it halves them. */
#ifndef QUEUE_LANE_START
#define QUEUE_LANE_START 3
#endif

/* When all QUEUE_REMOTE_MAX are taken, and mail for another place waits, in ms: of those that are
 * not known to fail, the one that has given no sign of life for so long makes room. It is tried
 * again at its time, and then has all of it. More than a long way's answer to a connection takes.
 */
#ifndef QUEUE_HURRY_MS
#define QUEUE_HURRY_MS 500
#endif

/* Places known to fail that are remembered while no mail is under way to them, for how many ms, and
 * how many of them: 900 bytes each. */
#ifndef QUEUE_LANE_FAILING_MS
#define QUEUE_LANE_FAILING_MS 1800000
#endif
#ifndef QUEUE_LANE_FAILING_MAX
#define QUEUE_LANE_FAILING_MAX 32
#endif

/* Messages and domains that the operator holds back: a list of names in memory, in bytes at most
 * 256 each, and in one file. */
#ifndef HOLD_MAX
#define HOLD_MAX 200
#endif

/* Destinations whose last verdicts are remembered for the operator, up to 255: 1 KB each. */
#ifndef QUEUE_DEST_MAX
#define QUEUE_DEST_MAX 32
#endif
#if QUEUE_DEST_MAX < 1 || QUEUE_DEST_MAX > 256
#error "QUEUE_DEST_MAX: 1 to 256"
#endif

/* Upper ends of the histogram of delivery delays, in s: 16 bytes each. */
#ifndef QUEUE_DELAY_BOUNDS
#define QUEUE_DELAY_BOUNDS 1, 5, 30, 60, 300, 1800, 3600, 14400, 86400
#endif

/* ---- status ------------------------------------------------------------------------------- */

/* Text of a status, in bytes, NUL included: one reply line of RFC 5321 4.5.3.1.5. Each recipient
 * whose state is in memory holds one. */
#ifndef STATUS_TEXT_MAX
#define STATUS_TEXT_MAX 512
#endif

/* ---- addr --------------------------------------------------------------------------------- */

/* Names beyond ASCII (RFC 5890, 6531, 8265) through libidn2. Without it addresses with UTF-8 are
 * refused with 553 5.6.7, A-labels stay undecoded, and 2 MB of flash (libidn2 and libunistring) and
 * 3 KB of code are saved. */
#ifndef WITH_IDN
#define WITH_IDN 1
#endif

/* Longest local part and domain in bytes (RFC 5321 4.5.3.1.1 and .2). Some senders of bulk mail
 * use longer local parts in their return paths; each address in memory costs the sum. */
#ifndef ADDR_USER_MAX
#define ADDR_USER_MAX 64
#endif
#ifndef ADDR_DOMAIN_MAX
#define ADDR_DOMAIN_MAX 255
#endif

/* ---- smtpreply ---------------------------------------------------------------------------- */

/* Longest reply line we write, line end included (RFC 5321 4.5.3.1.5), and how much of a line of
 * a peer's reply is kept while it is read. On the stack, and once a client session. */
#ifndef SMTP_REPLY_LINE
#define SMTP_REPLY_LINE 512
#endif

/* Longest text of a reply we write, in bytes, all lines together: the EHLO reply is the longest.
 * On the stack. */
#ifndef SMTP_REPLY_TEXT
#define SMTP_REPLY_TEXT 1024
#endif

/* A peer's reply past these is refused: bytes in a line (the RFC says 512, some servers write more)
 * and lines. They bound the time one reply can take, not memory. */
#ifndef SMTP_REPLY_LINE_MAX
#define SMTP_REPLY_LINE_MAX 4096
#endif
#ifndef SMTP_REPLY_LINES_MAX
#define SMTP_REPLY_LINES_MAX 128
#endif

/* ---- header ------------------------------------------------------------------------------- */

/* How much of a field that the scanner keeps (Message-ID, Subject) is kept, in bytes, NUL included.
 * Twice a message under way. */
#ifndef HEADER_CAPTURE_MAX
#define HEADER_CAPTURE_MAX 256
#endif

/* ---- dns ---------------------------------------------------------------------------------- */

/* The files that say which servers to ask, and which names need no asking; and how much of the
 * latter is read, in bytes: it is read for each query, and block lists must not stall the loop. */
#ifndef DNS_RESOLV_CONF
#define DNS_RESOLV_CONF "/etc/resolv.conf"
#endif
#ifndef DNS_HOSTS
#define DNS_HOSTS "/etc/hosts"
#endif
#ifndef DNS_HOSTS_BYTES
#define DNS_HOSTS_BYTES 65536
#endif

/* A change of resolv.conf is looked for at most this often, in ms: one stat() for a query. */
#ifndef DNS_CHECK_MS
#define DNS_CHECK_MS 1000
#endif

/* The first try at a server lasts this long, in ms, each further round twice as long; with three
 * rounds a dead server costs 21 s. Enough for a forwarder that walks a slow chain of name servers,
 * and far below the five minutes RFC 5321 4.5.3.2 grants the step that waits for it. */
#ifndef DNS_TRY_MS
#define DNS_TRY_MS 3000
#endif
#ifndef DNS_TRIES
#define DNS_TRIES 3
#endif

/* Once one of A and AAAA has brought addresses, the other is waited for this long, in ms: some
 * servers never answer AAAA. A bit more than one try, so that one lost packet is made good. */
#ifndef DNS_SECOND_MS
#define DNS_SECOND_MS 4000
#endif

/* The resolver's own clock is looked at least this often while a question is open, in ms. */
#ifndef DNS_TICK_MS
#define DNS_TICK_MS 5000
#endif

/* 1: IPv6 addresses are tried before IPv4 ones (RFC 6724). */
#ifndef DNS_PREFER_IPV6
#define DNS_PREFER_IPV6 1
#endif

/* How much of an answer is kept: mail hosts (the most preferred ones), addresses (half for each
 * family), TXT records and their bytes in all, host names of an address. They bound what a hostile
 * zone can make us hold or try; each query costs what it found. */
#ifndef DNS_MX_MAX
#define DNS_MX_MAX 20
#endif
#ifndef DNS_ADDRS_MAX
#define DNS_ADDRS_MAX 16
#endif
/* Addresses of one family asked for alone: SPF must see all that a sender's host has. */
#ifndef DNS_FAMILY_MAX
#define DNS_FAMILY_MAX 64
#endif
#ifndef DNS_TXT_MAX
#define DNS_TXT_MAX 100
#endif
#ifndef DNS_TXT_BYTES
#define DNS_TXT_BYTES 16384
#endif
#ifndef DNS_PTR_MAX
#define DNS_PTR_MAX 10
#endif

/* TLSA records of a host that are kept, and their bytes in all: most are digests of 32 bytes, but a
 * whole certificate may stand in one. */
#ifndef DNS_TLSA_MAX
#define DNS_TLSA_MAX 16
#endif
#ifndef DNS_TLSA_BYTES
#define DNS_TLSA_BYTES 16384
#endif

/* CNAMEs followed within one answer. */
#ifndef DNS_CNAME_MAX
#define DNS_CNAME_MAX 16
#endif

/* Questions under way at the same time, also those nobody waits for any more: about 1 KB each. */
#ifndef DNS_FLIGHTS_MAX
#define DNS_FLIGHTS_MAX 1024
#endif

/* Sockets watched at once: two (UDP, TCP) a server. 48 bytes each. */
#ifndef DNS_SOCKS_MAX
#define DNS_SOCKS_MAX 16
#endif

/* Sets of servers in use at once: the newest, and older ones whose last answers are awaited. When
 * resolv.conf changes more often, the oldest queries end as timed out. */
#ifndef DNS_CHANNELS_MAX
#define DNS_CHANNELS_MAX 4
#endif

/* When nobody has asked for so long, in ms, the resolver gives back its 75 KB; the next question
 * makes it anew from resolv.conf, which takes a fifth of a millisecond. Long enough to remember a
 * server that does not answer from one try of a message to its next look-ups. */
#ifndef DNS_REST_MS
#define DNS_REST_MS 60000
#endif

/* UDP answer we offer to take (EDNS, RFC 6891), in bytes: the size that crosses IPv6 links without
 * fragments; longer answers come by TCP. */
#ifndef DNS_UDP_SIZE
#define DNS_UDP_SIZE 1232
#endif

/* ---- proc --------------------------------------------------------------------------------- */

/* Children at once, also those killed that have not ended yet: one descriptor each. */
#ifndef PROC_MAX
#define PROC_MAX 128
#endif

/* The PATH a child gets when its caller names no environment. */
#ifndef PROC_PATH
#define PROC_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#endif

/* From SIGTERM to SIGKILL when the time limit has passed, in ms: time to remove lock files. As long
 * again for a child that even SIGKILL does not end (a dead network disk), then it is let go. */
#ifndef PROC_TERM_MS
#define PROC_TERM_MS 2000
#endif

/* How long the output is read on when the child has ended but others hold it open, in ms. */
#ifndef PROC_DRAIN_MS
#define PROC_DRAIN_MS 500
#endif

/* Bytes of a child's output taken in one turn, on the stack: a pipe holds 64 KB. */
#ifndef PROC_STEP
#define PROC_STEP 8192
#endif

/* Limits of a child and of all it starts, soft and hard; what the server itself has less of stays.
 *
 * Processes and threads of its user at once (RLIMIT_NPROC): the kernel counts all that this user
 * has, also those that are none of ours, and a setuid delivery agent becomes a user at a desktop
 * with more than a thousand threads. So not a measure of need, but the end of a fork bomb: 16 for
 * each of PROC_MAX children. Small boards end it earlier: three quarters of the server's own limit.
 */
#ifndef PROC_PROCESSES_MAX
#define PROC_PROCESSES_MAX 2048
#endif

/* Memory of each process, in bytes (RLIMIT_DATA: heap and private writable mappings; not the
 * address space, of which runtimes reserve more than there is memory). A content scanner that loads
 * its signatures into a hook takes 1.3 GB; what grows past this would wake the OOM killer, and that
 * might choose the server. */
#ifndef PROC_MEMORY_MAX
#define PROC_MEMORY_MAX 2147483648U
#endif

/* Descriptors of each process (RLIMIT_NOFILE): the traditional number, that of select(). */
#ifndef PROC_FILES_MAX
#define PROC_FILES_MAX 1024
#endif

/* Seconds of CPU time of each process for each second of its time limit (RLIMIT_CPU): the threads
 * it can keep busy. It ends what has left the group and is not killed with it. */
#ifndef PROC_CPU_FACTOR
#define PROC_CPU_FACTOR 16
#endif

/* ---- sandbox ------------------------------------------------------------------------------ */

/* Files and directories that the sandbox leaves in reach, those that links in the configuration
 * lead to included: each costs a descriptor for a moment at the start, its path in memory, and 100
 * bytes of the kernel's. */
#ifndef SANDBOX_PATHS_MAX
#define SANDBOX_PATHS_MAX 512
#endif

/* Entries of the configuration directory that are looked at for links, at the start and at a
 * reload: a microsecond each, four on slow flash. */
#ifndef SANDBOX_ENTRIES_MAX
#define SANDBOX_ENTRIES_MAX 20000
#endif

/* The newest system call of Linux that the filter knows, in the numbering that all architectures
 * share (6.18: file_setattr). Later ones are answered as an older kernel would. */
#ifndef SANDBOX_CALL_NEWEST
#define SANDBOX_CALL_NEWEST 469
#endif

/* 1: debuggers and leak checkers may look into the process (no filter for ptrace, memory open to
 * the own user). On by itself where the address sanitizer is: its leak check works with ptrace. */
#ifndef SANDBOX_DEBUG
#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_DEBUG 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_DEBUG 1
#endif
#endif
#endif
#ifndef SANDBOX_DEBUG
#define SANDBOX_DEBUG 0
#endif

/* ---- kdf ---------------------------------------------------------------------------------- */

/* Iterations of PBKDF2-HMAC-SHA256 for new passwords. Measured on one core of a server: 0.12 s (an
 * scrypt password of chasquid's: 0.05 s). A router of 500 MHz takes some seconds, in a child, at
 * each login; who guesses with a stolen file needs as long for each guess. */
#ifndef KDF_PBKDF2_ITERATIONS
#define KDF_PBKDF2_ITERATIONS 100000
#endif

/* Most iterations accepted in a users file: a mistyped one must not keep a child busy for ever. */
#ifndef KDF_PBKDF2_ITERATIONS_MAX
#define KDF_PBKDF2_ITERATIONS_MAX 10000000
#endif

/* Bounds of scrypt's parameters in a users file: logN, r, p, and the memory they ask for (128 * r *
 * 2^logN bytes, in the child). chasquid writes 14, 8, 1: 16 MB. */
#ifndef KDF_SCRYPT_LOGN_MAX
#define KDF_SCRYPT_LOGN_MAX 20
#endif
#ifndef KDF_SCRYPT_R_MAX
#define KDF_SCRYPT_R_MAX 32
#endif
#ifndef KDF_SCRYPT_P_MAX
#define KDF_SCRYPT_P_MAX 16
#endif
#ifndef KDF_SCRYPT_MEMORY_MAX
#define KDF_SCRYPT_MEMORY_MAX (64 * 1024 * 1024)
#endif

/* ---- user --------------------------------------------------------------------------------- */

/* Salt and hash (or plain password) of a stored password, in bytes: what is longer never matches.
 */
#ifndef USER_SALT_MAX
#define USER_SALT_MAX 64
#endif
#ifndef USER_HASH_MAX
#define USER_HASH_MAX 256
#endif

/* Mode of a users file that chasq makes: the daemon's group may read it. */
#ifndef USER_FILE_MODE
#define USER_FILE_MODE 0640
#endif

/* All names and stored passwords of one domain's users file, in bytes: about 90 a user. Bounds what
 * a broken file can eat. */
#ifndef USER_TABLE_MAX
#define USER_TABLE_MAX (8 * 1024 * 1024)
#endif

/* ---- auth --------------------------------------------------------------------------------- */

/* Hashing processes at once: each takes a processor, and 16 MB for an scrypt password. */
#ifndef AUTH_CHILDREN
#define AUTH_CHILDREN 1
#endif

/* Questions open at once, the hashing ones included: about 1 KB each. More are told to come back.
 */
#ifndef AUTH_WAITING
#define AUTH_WAITING 32
#endif

/* That there was no room for another question is logged once in this time, in ms. */
#ifndef AUTH_TELL_MS
#define AUTH_TELL_MS 60000
#endif

/* A hash that takes longer is given up, in ms: a child's whole life. */
#ifndef AUTH_CHILD_MS
#define AUTH_CHILD_MS 30000
#endif

/* "No" is told at a multiple of this after the question, in ms: it slows guessing, and hides how
 * long the check took. */
#ifndef AUTH_DELAY_MS
#define AUTH_DELAY_MS 1000
#endif

/* Failures of one address (or /64) before it has to wait, and the time in ms after which one of
 * them is forgotten: so, in the long run, it has one try in that time. */
#ifndef AUTH_FAILURES_MAX
#define AUTH_FAILURES_MAX 10
#endif
#ifndef AUTH_FORGET_MS
#define AUTH_FORGET_MS 60000
#endif

/* Addresses whose failures are remembered, 40 bytes each; when full, the one with the fewest goes.
 */
#ifndef AUTH_ADDRESSES_MAX
#define AUTH_ADDRESSES_MAX 128
#endif

/* Longest password that is checked, in bytes. */
#ifndef AUTH_PASSWORD_MAX
#define AUTH_PASSWORD_MAX 256
#endif

/* ---- dovecot ------------------------------------------------------------------------------ */

/* Where Dovecot's sockets are looked for. */
#ifndef DOVECOT_DIR
#define DOVECOT_DIR "/var/run/dovecot"
#endif

/* Time for Dovecot's greeting, and for its answer, in ms: it delays a refusal itself, by 2 s, and
 * up to 17 s for an address that fails often. */
#ifndef DOVECOT_GREETING_MS
#define DOVECOT_GREETING_MS 5000
#endif
#ifndef DOVECOT_ANSWER_MS
#define DOVECOT_ANSWER_MS 30000
#endif

/* Longest line from Dovecot, and all it may say on one connection, in bytes. */
#ifndef DOVECOT_LINE_MAX
#define DOVECOT_LINE_MAX 8192
#endif
#ifndef DOVECOT_INPUT_MAX
#define DOVECOT_INPUT_MAX 65536
#endif

/* ---- alias -------------------------------------------------------------------------------- */

/* Longest line of an aliases file, in bytes, held only while the file is read: some lists of
 * members stand on one line. */
#ifndef ALIAS_LINE_MAX
#define ALIAS_LINE_MAX 65536
#endif

/* All aliases of one domain, in bytes: about what the file has, and 8 more a line. */
#ifndef ALIAS_TABLE_MAX
#define ALIAS_TABLE_MAX (32 * 1024 * 1024)
#endif

/* Aliases that lead to aliases, so deep; deeper is a loop: 554 5.4.6. About 1 KB of stack each. */
#ifndef ALIAS_DEPTH_MAX
#define ALIAS_DEPTH_MAX 10
#endif

/* Destinations of one address, their bytes in all while it is resolved, and aliases looked up on
 * the way to them, which bounds the time. Past any of them: 451. */
#ifndef ALIAS_RESULTS_MAX
#define ALIAS_RESULTS_MAX 1000
#endif
#ifndef ALIAS_RESULTS_BYTES
#define ALIAS_RESULTS_BYTES (256 * 1024)
#endif
#ifndef ALIAS_STEPS_MAX
#define ALIAS_STEPS_MAX 10000
#endif

/* The aliases of the system, for system_aliases; and how many of its lines that are not supported
 * are logged one by one when it is read. */
#ifndef ALIAS_SYSTEM_FILE
#define ALIAS_SYSTEM_FILE "/etc/aliases"
#endif
#ifndef ALIAS_TELL_MAX
#define ALIAS_TELL_MAX 10
#endif

/* What is logged of an address whose aliases lead to missing users, in bytes: their names. */
#ifndef ALIAS_MISSING_MAX
#define ALIAS_MISSING_MAX 1024
#endif

/* ---- conf --------------------------------------------------------------------------------- */

/* The configuration directory, when -c does not say otherwise. */
#ifndef CONF_DIR
#define CONF_DIR "/etc/chasq"
#endif

/* Defaults of keys of chasq.conf; see chasq.conf(5). The data directory holds queue, control socket
 * and, by default, the Maildirs: it must be on persistent storage. */
#ifndef CONF_DATA_DIR
#define CONF_DATA_DIR "/var/lib/chasq"
#endif
#ifndef CONF_MAILDIR
#define CONF_MAILDIR "mail/%to_domain%/%to_user%"
#endif
/* The text of a reload's answer, and of one value in it, bytes: on the heap while it is made. */
#ifndef CONF_REPORT_BYTES
#define CONF_REPORT_BYTES 65536
#endif
#ifndef CONF_REPORT_VALUE
#define CONF_REPORT_VALUE 300
#endif

/* The mode of the control socket's file when control_mode is not given: every user may connect, for
 * local submission; who may command is control_users' matter. */
#ifndef CONF_CONTROL_MODE
#define CONF_CONTROL_MODE "0666"
#endif
#ifndef CONF_MAX_DATA_SIZE_MB
#define CONF_MAX_DATA_SIZE_MB 50
#endif
#ifndef CONF_GIVE_UP_SEND_AFTER
#define CONF_GIVE_UP_SEND_AFTER "20h"
#endif

/* Messages an hour that a host in a trusted network may relay: a camera that was broken into should
 * not send a million. Plenty for a LAN; 0 is no limit. */
#ifndef CONF_TRUSTED_RATE
#define CONF_TRUSTED_RATE 1000
#endif

/* A waiting message costs 72 bytes of memory: chasquid's default of 200 would protect it from
 * itself, here the free-space floor of the spool does that. */
#ifndef CONF_MAX_QUEUE_ITEMS
#define CONF_MAX_QUEUE_ITEMS 10000
#endif

/* Smarthosts and rules of masquerade in chasq.conf; longest first line of a password file, in
 * bytes. */
#ifndef CONF_SMARTHOSTS_MAX
#define CONF_SMARTHOSTS_MAX 16
#endif
#ifndef CONF_MASQUERADES_MAX
#define CONF_MASQUERADES_MAX 64
#endif
#ifndef CONF_PASSWORD_MAX
#define CONF_PASSWORD_MAX 4095
#endif

/* ---- courier, dsn ------------------------------------------------------------------------- */

/* Bytes of a message copied to a mailbox, or for a program, in one turn: a big message must not
 * stop the others. */
#ifndef COURIER_STEP
#define COURIER_STEP 65536
#endif

/* One read from the spool by a local courier, in bytes: on the stack, and again on the heap while
 * they wait to be taken. */
#ifndef COURIER_CHUNK
#define COURIER_CHUNK 12288
#endif

/* Deliveries at the same time: into mailboxes (four descriptors each; those that end together share
 * a flush), and by programs (a process on a small machine, and a copy of the message on the disk
 * until it ends), of each kind. */
#ifndef COURIER_MAILDIR_PARALLEL
#define COURIER_MAILDIR_PARALLEL 16
#endif

/* How long a delivery to a Maildir may join others that have it open, in ms: so long, at most, mail
 * goes into one that was moved away. 0: each opens it. */
#ifndef MAILDIR_SHARE_MS
#define MAILDIR_SHARE_MS 1000
#endif
#ifndef COURIER_PROGRAM_PARALLEL
#define COURIER_PROGRAM_PARALLEL 8
#endif

/* Transactions with the server at lmtp_address at the same time: what a small one has processes
 * for.
 */
#ifndef LMTP_PARALLEL
#define LMTP_PARALLEL 8
#endif

/* Time limits of the local delivery program and of a pipe, in ms; chasquid's. */
#ifndef COURIER_MDA_MS
#define COURIER_MDA_MS 30000
#endif
#ifndef COURIER_PIPE_MS
#define COURIER_PIPE_MS 30000
#endif

/* What is kept of a program's output for the log, in bytes a child. */
#ifndef COURIER_OUTPUT_MAX
#define COURIER_OUTPUT_MAX 512
#endif

/* Longest argument of the delivery program, and longest mailbox path, after replacement, bytes. */
#ifndef COURIER_ARG_MAX
#define COURIER_ARG_MAX 4096
#endif

/* Most of an undelivered message that a notification carries, in bytes; of a longer one it has the
 * header. Enough to recognise what was lost, without a second copy of every big mail on the disk.
 * In quoted-printable it takes up to three times that. */
#ifndef DSN_ORIGINAL_MAX
#define DSN_ORIGINAL_MAX 65536
#endif

/* Bytes of a notification made in one turn. */
#ifndef DSN_STEP
#define DSN_STEP 16384
#endif

/* ---- smtpd -------------------------------------------------------------------------------- */

/* Longest command line, line end included, in bytes. RFC 5321 4.5.3.1.4 asks for 512; parameters of
 * extensions make it longer. What is longer is read to its end and refused. */
#ifndef SMTPD_LINE_MAX
#define SMTPD_LINE_MAX 2048
#endif

/* Input a session holds, in bytes: one read() of content; freed whenever it is empty. At least
 * SMTPD_LINE_MAX. */
#ifndef SMTPD_IN_MAX
#define SMTPD_IN_MAX 8192
#endif

/* Replies a session holds, in bytes. From the mark on no command is read until the client has taken
 * some (back-pressure); above it the longest single reply must fit. */
#ifndef SMTPD_OUT_MARK
#define SMTPD_OUT_MARK 1024
#endif
#ifndef SMTPD_OUT_MAX
#define SMTPD_OUT_MAX 4096
#endif

/* Pipelined commands served in one turn of the loop: others want their turn too. */
#ifndef SMTPD_STEPS
#define SMTPD_STEPS 64
#endif

/* Name given with EHLO, in bytes; what is longer is cut. A domain has at most 255. */
#ifndef SMTPD_HELO_MAX
#define SMTPD_HELO_MAX 255
#endif

/* RCPTs accepted in one transaction. RFC 5321 4.5.3.1.8 asks for 100 at least; about 300 bytes
 * each. More get 452 and are sent in another transaction. */
#ifndef SMTPD_RCPTS_MAX
#define SMTPD_RCPTS_MAX 100
#endif

/* The same for users of this machine, whose sendmail sends no second transaction. */
#ifndef SMTPD_LOCAL_RCPTS_MAX
#define SMTPD_LOCAL_RCPTS_MAX 1000
#endif

/* Received fields in a message: with more it is in a loop (RFC 5321 6.3 asks for 100 hops at least;
 * chasquid stops at 50, and so do most). */
#ifndef SMTPD_RECEIVED_MAX
#define SMTPD_RECEIVED_MAX 50
#endif

/* 1: a header section with bytes beyond ASCII is refused without SMTPUTF8 (RFC 6531 3.2), and mail
 * that has one fails at hosts that do not offer it. 0: old devices and programs that write raw
 * 8-bit headers are put up with, and what they wrote is passed on as it is. */
#ifndef SMTPD_STRICT_HEADER
#define SMTPD_STRICT_HEADER 1
#endif

/* The refused command (5yz) with this number ends the session: unknown users, unknown commands. A
 * client that guesses addresses has to connect again and again. */
#ifndef SMTPD_ERRORS_MAX
#define SMTPD_ERRORS_MAX 10
#endif

/* Commands that bring no message nearer (NOOP, RSET, VRFY, EHLO, MAIL ...) between two messages.
 * They are cheap, and some clients probe a connection for hours; this only ends floods. */
#ifndef SMTPD_IDLE_COMMANDS_MAX
#define SMTPD_IDLE_COMMANDS_MAX 10000
#endif

/* Waiting for a command or the next piece of content (RFC 5321 4.5.3.2.7: 5 minutes), and a whole
 * session, in ms: 50 MB over a line of 128 kbit/s take an hour. */
#ifndef SMTPD_COMMAND_MS
#define SMTPD_COMMAND_MS (5 * 60 * 1000)
#endif
#ifndef SMTPD_CONTENT_MS
#define SMTPD_CONTENT_MS (5 * 60 * 1000)
#endif
#ifndef SMTPD_SESSION_MS
#define SMTPD_SESSION_MS (60 * 60 * 1000)
#endif

/* Failed tries to log in before the session ends with 421. */
#ifndef SMTPD_AUTH_FAILURES_MAX
#define SMTPD_AUTH_FAILURES_MAX 3
#endif

/* Checks of senders by SPF in a session: each is some dozens of DNS queries at most, and 2 KB are
 * kept for the last. One more sender gets 421 and may come in another connection. */
#ifndef SMTPD_SPF_MAX
#define SMTPD_SPF_MAX 20
#endif

/* What is gathered of a message's copy for hooks/post-data before it is written, in bytes: memory
 * of a session while such a message comes in, and system calls. */
#ifndef SMTPD_COPY_SIZE
#define SMTPD_COPY_SIZE 4096
#endif

/* Our own fields on top of a message, in bytes, while it begins. */
#ifndef SMTPD_FIELDS_MAX
#define SMTPD_FIELDS_MAX 16384
#endif

/* A TLS handshake, in ms: two round trips and two signatures. A small board takes a second for one,
 * and a hundred clients may have begun at the same time. */
#ifndef SMTPD_HANDSHAKE_MS
#define SMTPD_HANDSHAKE_MS 60000
#endif

/* Upper ends of the histograms of sessions, in s, and of messages, in bytes: 16 bytes each. */
#ifndef SMTPD_SECONDS_BOUNDS
#define SMTPD_SECONDS_BOUNDS 1, 5, 30, 60, 300, 900
#endif
#ifndef SMTPD_BYTES_BOUNDS
#define SMTPD_BYTES_BOUNDS 1000, 10000, 100000, 1000000, 10000000
#endif

/* ---- rate --------------------------------------------------------------------------------- */

/* Trusted hosts whose messages are counted: 32 bytes each, always. */
#ifndef RATE_HOSTS
#define RATE_HOSTS 64
#endif

/* ---- listen ------------------------------------------------------------------------------- */

/* Sessions at once: each costs a descriptor, in DATA another one and about 20 KB. */
#ifndef LISTEN_SESSIONS_MAX
#define LISTEN_SESSIONS_MAX 200
#endif

/* Of them from one address, or one /64 network of IPv6: nobody takes all for himself. */
#ifndef LISTEN_PER_ADDRESS_MAX
#define LISTEN_PER_ADDRESS_MAX 50
#endif

/* When all places are taken, a newcomer gets that of the stranger who has longest brought no
 * message, in ms at least: more than a mail of usual size takes, and little for who only sits
 * there.
 */
#ifndef LISTEN_GRACE_MS
#define LISTEN_GRACE_MS 10000
#endif

/* Bytes of content a second with which a client counts as bringing a message, however long that
 * takes: less than any line that sends mail of some size, and 3 MB a second for who wants to hold
 * all places by it. */
#ifndef LISTEN_WORTH
#define LISTEN_WORTH 16384
#endif

/* Descriptors kept free for deliveries, DNS, children, and files that nobody counts; at most half
 * of what the process may have. */
#ifndef LISTEN_FD_RESERVE
#define LISTEN_FD_RESERVE 128
#endif

/* Connections accepted by a listener in one turn, and waiting in the kernel. */
#ifndef LISTEN_ACCEPTS
#define LISTEN_ACCEPTS 16
#endif
#ifndef LISTEN_BACKLOG
#define LISTEN_BACKLOG 128
#endif

/* Lines that clients cause in the log without bringing a message: so many at once, then so many a
 * second, of at most LOG_LINE_MAX bytes (some 200 as a rule: 20 KB a second); a half and a quarter
 * of the burst are kept for what matters more (smtpd_log_may). Without a bound one client writes
 * megabytes a second, which fills a flash. How often it is told how many were left out, in ms. */
#ifndef SMTPD_LOG_BURST
#define SMTPD_LOG_BURST 5000
#endif
#ifndef SMTPD_LOG_RATE
#define SMTPD_LOG_RATE 100
#endif
#ifndef SMTPD_LOG_TELL_MS
#define SMTPD_LOG_TELL_MS 10000
#endif

/* Time between two log lines about mail that is put off because of a trouble of our own (disk full,
 * no memory), in ms. What comes in between is counted. */
#ifndef SMTPD_TROUBLE_LOG_MS
#define SMTPD_TROUBLE_LOG_MS 60000
#endif

/* Listening addresses in all: 64 bytes each. */
#ifndef LISTEN_MAX
#define LISTEN_MAX 16
#endif

/* No accept for so long when descriptors or memory have run out; the time between two tries to get
 * an address that is not there yet; and between two log lines about refused connections, in ms. */
#ifndef LISTEN_PAUSE_MS
#define LISTEN_PAUSE_MS 1000
#endif
#ifndef LISTEN_RETRY_MS
#define LISTEN_RETRY_MS 5000
#endif
#ifndef LISTEN_LOG_MS
#define LISTEN_LOG_MS 1000
#endif

/* With haproxy_incoming: connections whose header is waited for, 1.2 KB each; the one that has
 * waited longest makes way for the next. And for how long, in ms: a header comes with the first
 * packet, and a packet that was lost comes again after three seconds at most. */
#ifndef LISTEN_PROXY_MAX
#define LISTEN_PROXY_MAX 64
#endif
#ifndef LISTEN_PROXY_MS
#define LISTEN_PROXY_MS 10000
#endif

/* The longest header of the PROXY protocol, in bytes: addresses take up to 232, and what proxies
 * say of TLS, names and networks in version 2 a few hundred. */
#ifndef PROXYPROTO_MAX
#define PROXYPROTO_MAX 1024
#endif

/* ---- smtpc -------------------------------------------------------------------------------- */

/* How long a peer may take, in ms. RFC 5321 4.5.3.2 gives the least for each: a delivery waits in
 * its place meanwhile. CONNECT is ours: kernels try for two minutes, but there are more addresses.
 */
#ifndef SMTPC_CONNECT_MS
#define SMTPC_CONNECT_MS 30000
#endif
#ifndef SMTPC_GREETING_MS
#define SMTPC_GREETING_MS 300000
#endif
#ifndef SMTPC_EHLO_MS
#define SMTPC_EHLO_MS 300000
#endif
#ifndef SMTPC_MAIL_MS
#define SMTPC_MAIL_MS 300000
#endif
#ifndef SMTPC_RCPT_MS
#define SMTPC_RCPT_MS 300000
#endif
#ifndef SMTPC_DATA_MS
#define SMTPC_DATA_MS 120000
#endif
#ifndef SMTPC_BLOCK_MS
#define SMTPC_BLOCK_MS 180000
#endif
#ifndef SMTPC_FINAL_MS
#define SMTPC_FINAL_MS 600000
#endif

/* TLS and login, in ms: the RFCs give no limits, so as for a command; a handshake takes a slow
 * machine a few seconds. */
#ifndef SMTPC_STARTTLS_MS
#define SMTPC_STARTTLS_MS 120000
#endif
#ifndef SMTPC_HANDSHAKE_MS
#define SMTPC_HANDSHAKE_MS 60000
#endif
#ifndef SMTPC_AUTH_MS
#define SMTPC_AUTH_MS 180000
#endif

/* User and password or token together, in bytes. Tokens have one or two KB. */
#ifndef SMTPC_LOGIN_MAX
#define SMTPC_LOGIN_MAX 8192
#endif

/* A reply that repeats so many bytes of a password, or of its base64, is not shown. At least 2. */
#ifndef SMTPC_HIDE
#define SMTPC_HIDE 8
#endif

/* Nothing depends on these answers any more, so we need not wait as long, in ms. */
#ifndef SMTPC_RSET_MS
#define SMTPC_RSET_MS 20000
#endif
#ifndef SMTPC_QUIT_MS
#define SMTPC_QUIT_MS 10000
#endif

/* A session that is ready and kept for the next message says QUIT after this, in ms: the next
 * message comes at once where there are many, and servers want their places back. */
#ifndef SMTPC_IDLE_MS
#define SMTPC_IDLE_MS 2000
#endif

/* A whole session, in ms: a peer that gives a byte a minute must not hold a delivery for ever. Long
 * enough for 50 MB at 4 KB/s. */
#ifndef SMTPC_SESSION_MS
#define SMTPC_SESSION_MS 21600000
#endif

/* Bytes of input and output a session holds; the second bounds what is read ahead of the network,
 * and is allocated while a message is sent. At least 2 SMTPC_CHUNK + SMTPC_COMMAND_MAX. */
#ifndef SMTPC_IN_MAX
#define SMTPC_IN_MAX 4096
#endif
#ifndef SMTPC_OUT_MAX
#define SMTPC_OUT_MAX 32768
#endif

/* One read of content, in bytes of stack. */
#ifndef SMTPC_CHUNK
#define SMTPC_CHUNK 4096
#endif

/* Room a command needs before it is written, in bytes: MAIL with the longest address and SIZE. */
#ifndef SMTPC_COMMAND_MAX
#define SMTPC_COMMAND_MAX 1024
#endif

/* ---- remote ------------------------------------------------------------------------------- */

/* Deliveries to one domain at the same time: more than a few look like an attack to its server. */
#ifndef REMOTE_DOMAIN_PARALLEL
#define REMOTE_DOMAIN_PARALLEL 10
#endif

/* Messages one connection may carry: more than this, and servers that limit it begin to refuse; and
 * its life in ms, after which no message begins on it. What DNS, MTA-STS and DANE said when it was
 * opened counts for that long, as with a TTL of a minute. */
#ifndef REMOTE_REUSE_MAX
#define REMOTE_REUSE_MAX 500
#endif
#ifndef REMOTE_REUSE_MS
#define REMOTE_REUSE_MS 60000
#endif

/* Connections kept for the next message, for SMTPC_IDLE_MS: each costs a descriptor, about 4 KB and
 * 30 KB more with TLS. With those in use they are never more than QUEUE_REMOTE_MAX. 0: each message
 * has a connection of its own. */
#ifndef REMOTE_IDLE_MAX
#define REMOTE_IDLE_MAX 30
#endif

/* Mail hosts tried in one attempt, and addresses of each: they bound the time an attempt takes, and
 * memory: 20 bytes an address for each delivery. */
#ifndef REMOTE_HOSTS_MAX
#define REMOTE_HOSTS_MAX 5
#endif
#ifndef REMOTE_ADDRS_MAX
#define REMOTE_ADDRS_MAX 8
#endif

/* A header field that masquerade looks at, in bytes: a buffer of this size for each delivery while
 * it sends a header, when there are rules. */
#ifndef MASQUERADE_FIELD_MAX
#define MASQUERADE_FIELD_MAX 8192
#endif

/* How long a delivery to hosts that take no more connections (421) waits for one that another has,
 * in ms. It holds its place meanwhile, unless others need it (QUEUE_HURRY_MS). */
#ifndef REMOTE_CROWDED_MS
#define REMOTE_CROWDED_MS 30000
#endif

/* Recipients given to a host in one transaction: what RFC 5321 4.5.3.1.8 has all servers take. Of
 * more the rest would be refused, by some for good. */
#ifndef REMOTE_RCPTS_MAX
#define REMOTE_RCPTS_MAX 100
#endif

/* How long password_command may run, and how long credentials that a smarthost has refused are not
 * tried again unless they change, in ms: providers lock accounts after a few wrong passwords. */
#ifndef REMOTE_PASSWORD_MS
#define REMOTE_PASSWORD_MS 30000
#endif
#ifndef REMOTE_REFUSED_MS
#define REMOTE_REFUSED_MS 600000
#endif

/* 1: the name in EHLO is the domain of the envelope sender (the host name for <>), for hosts that
 * serve many domains; 0: always the host name. */
#ifndef REMOTE_EHLO_SENDER_DOMAIN
#define REMOTE_EHLO_SENDER_DOMAIN 0
#endif

/* ---- chasq -------------------------------------------------------------------------------- */

/* Options -o on a command line. */
#ifndef CHASQ_OVERRIDES_MAX
#define CHASQ_OVERRIDES_MAX 32
#endif

/* How long sessions and deliveries may go on after SIGTERM, in ms: less than what init systems wait
 * before they kill (procd: 5 s). What is not done then is in the queue. */
#ifndef CHASQ_STOP_MS
#define CHASQ_STOP_MS 4000
#endif

/* Where certificates are: NAME/fullchain.pem and NAME/privkey.pem, below the configuration
 * directory. */
#ifndef CHASQ_CERTS_DIR
#define CHASQ_CERTS_DIR "certs"
#endif

/* How often users, aliases, domains and certificates are looked at for changes, in ms (as
 * chasquid). */
#ifndef CHASQ_REFRESH_MS
#define CHASQ_REFRESH_MS 30000
#endif

/* ---- control ------------------------------------------------------------------------------ */

/* Connections to the UNIX socket at the same time, and those of one user (root has no such limit):
 * a submission costs an SMTP session, about 10 KB and a descriptor. */
#ifndef CONTROL_CONNECTIONS_MAX
#define CONTROL_CONNECTIONS_MAX 32
#endif
#ifndef CONTROL_PER_USER_MAX
#define CONTROL_PER_USER_MAX 10
#endif

/* Of all connections, those that only root, the daemon's user and control_users can have: a few
 * local users together must not shut out the operator. */
#ifndef CONTROL_OPERATOR_PLACES
#define CONTROL_OPERATOR_PLACES 4
#endif
#if CONTROL_OPERATOR_PLACES >= CONTROL_CONNECTIONS_MAX
#error "CONTROL_OPERATOR_PLACES: nobody else could submit mail"
#endif

/* Descriptors that stay free for deliveries, DNS and children. */
#ifndef CONTROL_FD_RESERVE
#define CONTROL_FD_RESERVE 16
#endif

/* The command line: its longest length in bytes and the time to send it in ms. */
#ifndef CONTROL_LINE_MAX
#define CONTROL_LINE_MAX 512
#endif
#ifndef CONTROL_LINE_MS
#define CONTROL_LINE_MS 10000
#endif

/* An answer: bytes waiting for the client, and the time without progress before it is given up. */
#ifndef CONTROL_OUT_MAX
#define CONTROL_OUT_MAX 16384
#endif
#ifndef CONTROL_ANSWER_MS
#define CONTROL_ANSWER_MS 30000
#endif

/* Lists: messages looked up at once (100 bytes each, and one pass over the index), the longest
 * field and line in bytes (a line is written when it fits into what may wait), recipients shown of
 * a message. */
#ifndef CONTROL_BATCH
#define CONTROL_BATCH 64
#endif
#ifndef CONTROL_FIELD_BYTES
#define CONTROL_FIELD_BYTES 1100
#endif
#ifndef CONTROL_ITEM_BYTES
#define CONTROL_ITEM_BYTES 6144
#endif
#ifndef CONTROL_RCPTS_SHOWN
#define CONTROL_RCPTS_SHOWN 3
#endif

/* An answer that is made at once (configuration, report, counters, attempts of a message), in bytes
 * of memory until it is sent; a longer one ends in an error. */
#ifndef CONTROL_TEXT_MAX
#define CONTROL_TEXT_MAX (256 * 1024)
#endif

/* How much of a message is looked through for its header section by SHOW, in bytes. */
#ifndef CONTROL_HEADER_MAX
#define CONTROL_HEADER_MAX 16384
#endif

/* How often TRACE FOLLOW looks for new events, in ms. */
#ifndef CONTROL_FOLLOW_MS
#define CONTROL_FOLLOW_MS 200
#endif

/* Messages listed or looked at in one turn of the loop: each is a file to read. */
#ifndef CONTROL_LIST_STEP
#define CONTROL_LIST_STEP 16
#endif

/* Lines of /etc/passwd and /etc/group that are searched for a name. */
#ifndef CONTROL_PASSWD_LINES
#define CONTROL_PASSWD_LINES 10000
#endif

/* How long nothing is accepted after accept() has failed, in ms. */
#ifndef CONTROL_PAUSE_MS
#define CONTROL_PAUSE_MS 1000
#endif

/* ---- cli ---------------------------------------------------------------------------------- */

/* What sendmail reads of a message before it asks for a session, in bytes: all of a small one, so
 * that a slow writer keeps no session waiting, and at least the whole header section. */
#ifndef CLI_HEADER_MAX
#define CLI_HEADER_MAX (128 * 1024)
#endif

/* Recipients of one call of sendmail: those of the daemon's limit, SMTPD_LOCAL_RCPTS_MAX, and no
 * more can succeed; this one bounds memory. */
#ifndef CLI_RCPTS_MAX
#define CLI_RCPTS_MAX 1000
#endif

/* How long a tool waits for the daemon to take or give anything, in s. */
#ifndef CLI_WAIT_S
#define CLI_WAIT_S 300
#endif

/* How long stop waits for the daemon to end, in s: CHASQ_STOP_MS and the last flush of the disk. */
#ifndef CLI_STOP_S
#define CLI_STOP_S 30
#endif

/* Fields of a line of an answer; the longest line in bytes. */
#ifndef CLI_FIELDS
#define CLI_FIELDS 24
#endif
#ifndef CLI_LINE_MAX
#define CLI_LINE_MAX 16384
#endif

/* How much of an answer is read ahead of its printing, in bytes: a pager that waits for its reader
 * must not make the daemon wait. About 10,000 messages. */
#ifndef CLI_ANSWER_MAX
#define CLI_ANSWER_MAX (2 * 1024 * 1024)
#endif

/* A table: its columns; the rows that are looked at for the widths of the columns, and their bytes;
 * the columns of a line when that is no terminal; and the fewest. */
#ifndef CLI_COLUMNS
#define CLI_COLUMNS 8
#endif
#ifndef CLI_TABLE_ROWS
#define CLI_TABLE_ROWS 1000
#endif
#ifndef CLI_TABLE_BYTES
#define CLI_TABLE_BYTES (512 * 1024)
#endif
#ifndef CLI_WIDTH
#define CLI_WIDTH 80
#endif
#ifndef CLI_WIDTH_MIN
#define CLI_WIDTH_MIN 40
#endif

/* Events that trace shows when it is not told how many. */
#ifndef CLI_TRACE_COUNT
#define CLI_TRACE_COUNT 100
#endif

/* ---- cli: check and dialog ------------------------------------------------------------------ */

/* How long one step of a conversation with a server may take, and all of check, in ms. People wait
 * for both. */
#ifndef CLI_PROBE_MS
#define CLI_PROBE_MS 10000
#endif
#ifndef CLI_CHECK_MS
#define CLI_CHECK_MS 60000
#endif

/* dialog: the longest line shown, in bytes, and hosts of a domain that are tried. */
#ifndef CLI_PROBE_LINE
#define CLI_PROBE_LINE 512
#endif
#ifndef CLI_PROBE_HOSTS_MAX
#define CLI_PROBE_HOSTS_MAX 8
#endif

/* check: a certificate with fewer days left is warned of: those of Let's Encrypt are renewed with
 * 30 days left, so something did not happen for a week or more. */
#ifndef CHECK_CERT_DAYS
#define CHECK_CERT_DAYS 21
#endif

/* check: less room for the queue than this is warned of, in bytes. */
#ifndef CHECK_FREE_LOW
#define CHECK_FREE_LOW (64 * 1024 * 1024)
#endif

/* check: addresses of this machine that are looked at, 20 bytes each. */
#ifndef CHECK_ADDRS_MAX
#define CHECK_ADDRS_MAX 16
#endif

/* ---- tls ---------------------------------------------------------------------------------- */

/* Bytes taken from a socket in one step of a handshake or a read: a record has 16 KB at most. What
 * a hostile peer sends faster than we work must not keep us from the others. */
#ifndef TLS_STEP
#define TLS_STEP 32768
#endif

/* Session tickets that the server gives (TLS 1.2), in s: how long one counts. A client that comes
 * back in that time costs a tenth of a handshake. Who gets hold of our memory can read sessions
 * recorded in twice that time. 0: none are given. */
#ifndef TLS_TICKET_SECONDS
#define TLS_TICKET_SECONDS 3600
#endif

/* Certificate chain or private key of ours, or a file in a directory of root certificates, in
 * bytes. Held while it is read. */
#ifndef TLS_FILE_MAX
#define TLS_FILE_MAX (256 * 1024)
#endif

/* Our own certificates: about 8 KB each with their chains. */
#ifndef TLS_CERTS_MAX
#define TLS_CERTS_MAX 64
#endif

/* Root certificates, when neither chasq.conf nor SSL_CERT_FILE nor SSL_CERT_DIR says: the first of
 * the two that is there. */
#ifndef TLS_ROOTS_FILE
#define TLS_ROOTS_FILE "/etc/ssl/certs/ca-certificates.crt"
#endif
#ifndef TLS_ROOTS_DIR
#define TLS_ROOTS_DIR "/etc/ssl/certs"
#endif

/* Roots known, 16 bytes each; the usual bundle has about 145. */
#ifndef TLS_ROOTS_MAX
#define TLS_ROOTS_MAX 512
#endif

/* One root certificate in a bundle, in bytes of PEM; held while it is looked at. */
#ifndef TLS_ROOT_PEM_MAX
#define TLS_ROOT_PEM_MAX 8192
#endif

/* Certificates of a peer's chain whose issuers are looked up, and roots loaded for one chain: 3 KB
 * each while it is verified. */
#ifndef TLS_CHAIN_MAX
#define TLS_CHAIN_MAX 8
#endif
#ifndef TLS_CANDIDATES_MAX
#define TLS_CANDIDATES_MAX 8
#endif

/* ---- domaininfo --------------------------------------------------------------------------- */

/* Most domains remembered: about 100 bytes of memory each, and a small file for those that have
 * shown TLS. At most half of them may be known from incoming mail alone, so that strangers cannot
 * keep us from remembering where we send to. */
#ifndef DOMAININFO_MAX
#define DOMAININFO_MAX 4096
#endif

/* Once half of the strangers' room is taken: most of them whose last two labels are the same. Who
 * has a domain has as many names below it as he likes, each with a pass of SPF, for nothing. */
#ifndef DOMAININFO_KIN_MAX
#define DOMAININFO_KIN_MAX 64
#endif

/* How often, in seconds, the date of the last connection is written anew, when levels expire at
 * all: each is a write to flash. A day. */
#ifndef DOMAININFO_TOUCH_S
#define DOMAININFO_TOUCH_S 86400
#endif

/* Files whose date is missing are dated with the next mail, one at a time, so many seconds apart:
 * each is a write, and a whole directory at once would stop a slow disk. So is a write that failed
 * tried again. */
#ifndef DOMAININFO_MEND_S
#define DOMAININFO_MEND_S 10
#endif

/* Names in the directory that are looked at, so that junk cannot stretch a start without end; and
 * the longest file read, in bytes: ours have up to 1300. */
#ifndef DOMAININFO_FILES_MAX
#define DOMAININFO_FILES_MAX 65536
#endif
#ifndef DOMAININFO_FILE_MAX
#define DOMAININFO_FILE_MAX 4096
#endif

/* Bad files told one by one at start; the rest is counted. Seconds between two lines that tell of a
 * full table or a disk that refuses. */
#ifndef DOMAININFO_TELL_MAX
#define DOMAININFO_TELL_MAX 10
#endif
#ifndef DOMAININFO_TELL_S
#define DOMAININFO_TELL_S 3600
#endif

/* ---- spf ---------------------------------------------------------------------------------- */

/* Terms that ask DNS, look-ups without answer, names of an mx or a ptr (RFC 7208 4.6.4). */
#ifndef SPF_TERMS_MAX
#define SPF_TERMS_MAX 10
#endif
#ifndef SPF_VOID_MAX
#define SPF_VOID_MAX 2
#endif
#ifndef SPF_NAMES_MAX
#define SPF_NAMES_MAX 10
#endif

/* Time for one check, in ms: RFC 7208 4.6.4 wants at least 20 s. */
#ifndef SPF_TOTAL_MS
#define SPF_TOTAL_MS 20000
#endif

/* Longest record looked at and term kept, in bytes: DNS over UDP carries less than 4 KB. */
#ifndef SPF_RECORD_MAX
#define SPF_RECORD_MAX 4096
#endif
#ifndef SPF_TERM_MAX
#define SPF_TERM_MAX 255
#endif

/* Longest explanation given to a client that was refused, in bytes: it must fit one reply line. */
#ifndef SPF_EXPLANATION_MAX
#define SPF_EXPLANATION_MAX 300
#endif

/* All records of a check that are held at a time, in bytes: its own and those included around the
 * term being evaluated. RFC 7208 3.4 wants each to be below 450. */
#ifndef SPF_RECORDS_MAX
#define SPF_RECORDS_MAX 8192
#endif

/* Checks under way at a time. Each holds about 5 KB; 20 KB with the most hostile records. */
#ifndef SPF_CHECKS_MAX
#define SPF_CHECKS_MAX 64
#endif

/* Clients on loopback addresses are this machine, of which SPF says nothing. 0 lets tests check. */
#ifndef SPF_SKIP_LOOPBACK
#define SPF_SKIP_LOOPBACK 1
#endif

/* ---- authres ------------------------------------------------------------------------------ */

/* Longest Authentication-Results or Received-SPF field of others that is kept, in bytes. */
#ifndef AUTHRES_FIELD_MAX
#define AUTHRES_FIELD_MAX 8192
#endif

/* ---- https -------------------------------------------------------------------------------- */

/* The port; the name in a policy's address has none (RFC 8461 3.3). */
#ifndef HTTPS_PORT
#define HTTPS_PORT 443
#endif

/* Longest header section of an answer, in bytes. */
#ifndef HTTPS_HEADER_MAX
#define HTTPS_HEADER_MAX 8192
#endif

/* Longest line between two chunks of content, in bytes: a number, and extensions nobody uses. */
#ifndef HTTPS_CHUNK_LINE_MAX
#define HTTPS_CHUNK_LINE_MAX 256
#endif

/* Addresses of the server that are tried. */
#ifndef HTTPS_ADDRS_MAX
#define HTTPS_ADDRS_MAX 4
#endif

/* ---- sts ---------------------------------------------------------------------------------- */

/* Size and time of a fetch (RFC 8461 3.3: 64 KB, one minute). */
#ifndef STS_POLICY_MAX
#define STS_POLICY_MAX 65536
#endif
#ifndef STS_FETCH_MS
#define STS_FETCH_MS 60000
#endif

/* Most hosts of a policy that are kept; one with more is not understood. */
#ifndef STS_MX_MAX
#define STS_MX_MAX 64
#endif

/* Policies kept on disk, one small file each; those that expire first go first. Permissions of the
 * files. */
#ifndef STS_CACHE_MAX
#define STS_CACHE_MAX 512
#endif
#ifndef STS_FILE_MODE
#define STS_FILE_MODE 0640
#endif

/* Fetches under way at a time: a TLS session each, 35 KB. Others wait. */
#ifndef STS_FLIGHTS_MAX
#define STS_FLIGHTS_MAX 4
#endif

/* After a fetch that failed it is not tried again for so long, ms (RFC 8461 3.3: five minutes). */
#ifndef STS_RETRY_MS
#define STS_RETRY_MS 300000
#endif

/* Domains whose failed fetch is remembered for that time: about 300 bytes each at most. */
#ifndef STS_FAILED_MAX
#define STS_FAILED_MAX 64
#endif

/* How often the cache is gone through for policies to be fetched anew, and after which age they
 * are: ms, s. */
#ifndef STS_REFRESH_MS
#define STS_REFRESH_MS 3600000
#endif
#ifndef STS_REFRESH_AGE
#define STS_REFRESH_AGE 86400
#endif

/* ---- dane --------------------------------------------------------------------------------- */

/* TLSA records of a host that are looked at. */
#ifndef DANE_RECORDS_MAX
#define DANE_RECORDS_MAX 16
#endif

/* Longest certificate or key in a record, in bytes; longer ones are not usable. With the number of
 * records, the memory a host's can take: 64 KB. */
#ifndef DANE_DATA_MAX
#define DANE_DATA_MAX 4096
#endif

/* Authorities that are tried for one chain: each costs up to TLS_CHAIN_MAX signatures, a few ms
 * apiece on a router. */
#ifndef DANE_ANCHORS_MAX
#define DANE_ANCHORS_MAX 8
#endif

/* ---- hook --------------------------------------------------------------------------------- */

/* Where the operator's programs are, in the configuration directory. */
#ifndef HOOK_DIR
#define HOOK_DIR "hooks"
#endif

/* After so many looks in vain within so many ms a hook is not looked for again in what is left of
 * them: two system calls a message. */
#ifndef HOOK_LOOKS
#define HOOK_LOOKS 10
#endif
#ifndef HOOK_LOOK_MS
#define HOOK_LOOK_MS 500
#endif

/* Runs at a time, and those that wait for their turn; more fail at once. Each costs a process. */
#ifndef HOOK_PARALLEL
#define HOOK_PARALLEL 8
#endif
#ifndef HOOK_WAITING
#define HOOK_WAITING 64
#endif

/* Time limits in ms: alias-resolve and rcpt, post-data (chasquid's 5 s and 1 minute). */
#ifndef HOOK_SHORT_MS
#define HOOK_SHORT_MS 5000
#endif
#ifndef HOOK_LONG_MS
#define HOOK_LONG_MS 60000
#endif

/* Most output of one run that is looked at, in bytes; more counts as a failure. And what is logged
 * of its stderr: a line of the log holds no more. */
#ifndef HOOK_OUTPUT_MAX
#define HOOK_OUTPUT_MAX 16384
#endif
#ifndef HOOK_ERRORS_MAX
#define HOOK_ERRORS_MAX 800
#endif

/* Longest value in a hook's environment, in bytes: the list of recipients is cut between two. Linux
 * allows 128 KB. */
#ifndef HOOK_VALUE_MAX
#define HOOK_VALUE_MAX 65536
#endif

/* ---- resolve ------------------------------------------------------------------------------ */

/* Runs of hooks/alias-resolve and questions to Dovecot for one address: an alias of aliases could
 * ask without end. */
#ifndef RESOLVE_ASKS_MAX
#define RESOLVE_ASKS_MAX 200
#endif

/* How long an address may take in all, in ms: clients wait five minutes for a reply to RCPT (RFC
 * 5321 4.5.3.2.3). */
#ifndef RESOLVE_TOTAL_MS
#define RESOLVE_TOTAL_MS 120000
#endif

/* ---- srs ---------------------------------------------------------------------------------- */

/* For how many days a rewritten sender takes bounces: longer than servers keep trying. */
#ifndef SRS_DAYS
#define SRS_DAYS 21
#endif
#if SRS_DAYS < 1 || SRS_DAYS > 1000
#error "SRS_DAYS: days are counted modulo 1024"
#endif

/* Characters of the hash in a rewritten sender, 5 bits each (at most 32). Each one more is one less
 * for the sender's own address, of the 46 that are left for it: 8 stop guessing at RCPT, where a
 * million tries a day would need 1500 years for an even chance of one address for SRS_DAYS. */
#ifndef SRS_HASH_CHARS
#define SRS_HASH_CHARS 8
#endif

/* Keys that are believed: the one that signs and those from before it. */
#ifndef SRS_KEYS_MAX
#define SRS_KEYS_MAX 5
#endif

/* ---- httpd -------------------------------------------------------------------------------- */

/* HTTP connections at the same time, each about 1 KB, a descriptor, and its buffers while it is
 * busy; and those of one client (an IPv6 client is its /64), enough for a browser, which opens 6.
 */
#ifndef HTTPD_CONNECTIONS_MAX
#define HTTPD_CONNECTIONS_MAX 16
#endif
#ifndef HTTPD_PER_ADDRESS_MAX
#define HTTPD_PER_ADDRESS_MAX 8
#endif

/* Descriptors that HTTP leaves to mail: more than LISTEN_FD_RESERVE, so that a page is refused
 * before a mail session is (half of all where that is less). */
#ifndef HTTPD_FD_RESERVE
#define HTTPD_FD_RESERVE 160
#endif

/* A request, in bytes: its first line, which holds path and query (414); all of its head (431);
 * fields in that (431); its body (413), a form with a message's ID and a token. Browsers send heads
 * of 1 to 2 KB. */
#ifndef HTTPD_LINE_MAX
#define HTTPD_LINE_MAX 2048
#endif
#ifndef HTTPD_HEAD_MAX
#define HTTPD_HEAD_MAX 8192
#endif
#ifndef HTTPD_FIELDS_MAX
#define HTTPD_FIELDS_MAX 64
#endif
#ifndef HTTPD_BODY_MAX
#define HTTPD_BODY_MAX 4096
#endif

/* Times in ms: from its first byte a request has to be whole within the first; a connection without
 * one is kept for the second. */
#ifndef HTTPD_REQUEST_MS
#define HTTPD_REQUEST_MS 10000
#endif
#ifndef HTTPD_IDLE_MS
#define HTTPD_IDLE_MS 30000
#endif

/* A client that waits with its request longer than this, in ms, gives its place to a new one when
 * there is no other: whoever opens connections and says nothing shuts nobody out. */
#ifndef HTTPD_GRACE_MS
#define HTTPD_GRACE_MS 1000
#endif

/* The client has to take at least so many bytes of an answer in so many ms. */
#ifndef HTTPD_SEND_MIN
#define HTTPD_SEND_MIN 1024
#endif
#ifndef HTTPD_SEND_MS
#define HTTPD_SEND_MS 20000
#endif

/* Requests on one connection: then it is closed, and the next one takes its turn. */
#ifndef HTTPD_REQUESTS_MAX
#define HTTPD_REQUESTS_MAX 100
#endif

/* Bytes of an answer in memory: a whole body fits, or it is sent in pieces of at least HTTPD_PIECE
 * bytes of room. */
#ifndef HTTPD_OUT_MAX
#define HTTPD_OUT_MAX 65536
#endif
#ifndef HTTPD_PIECE
#define HTTPD_PIECE 8192
#endif

/* How long none is accepted after accept() has failed, or when no place is free, in ms. */
#ifndef HTTPD_PAUSE_MS
#define HTTPD_PAUSE_MS 1000
#endif

/* ---- monitor_auth, monitor_text ----------------------------------------------------------- */

/* Longest "user:password" of the monitoring page, in bytes: static memory, twice on the stack. */
#ifndef MONITOR_LOGIN_MAX
#define MONITOR_LOGIN_MAX 255
#endif

/* Wrong passwords an hour from one address (so many at once, then one from time to time); then it
 * gets 429, even with the right one. A guesser gets 500,000 a year. */
#ifndef MONITOR_FAILURES_HOUR
#define MONITOR_FAILURES_HOUR 60
#endif

/* The dump of the queue: messages looked up at once (90 bytes each, and one pass over the index),
 * messages opened in one turn of the loop, and the longest value shown, in bytes. */
#ifndef MONITOR_BATCH
#define MONITOR_BATCH 64
#endif
#ifndef MONITOR_STEP
#define MONITOR_STEP 16
#endif
#ifndef MONITOR_VALUE_MAX
#define MONITOR_VALUE_MAX 1024
#endif

/* ---- monitor, monitor_page, monitor_queue, monitor_chart ---------------------------------- */

/* A page is made in units of at most so many bytes, and sent before the next is made: memory of one
 * connection. The longest one is the beginning of a message's header, all of it escaped. */
#ifndef MONITOR_UNIT_MAX
#define MONITOR_UNIT_MAX 262144
#endif

/* How much of a message's header is shown, in bytes. */
#ifndef MONITOR_HEADER_MAX
#define MONITOR_HEADER_MAX 8192
#endif

/* Messages on one page of the queue, messages opened for it at most when few match its filter, and
 * the longest filter in bytes. */
#ifndef MONITOR_ROWS
#define MONITOR_ROWS 50
#endif
#ifndef MONITOR_SCAN_MAX
#define MONITOR_SCAN_MAX 5000
#endif
#ifndef MONITOR_FILTER_MAX
#define MONITOR_FILTER_MAX 200
#endif

/* Characters of an address or reply in a table; the message's own page shows all. */
#ifndef MONITOR_SHOWN_MAX
#define MONITOR_SHOWN_MAX 100
#endif

/* Events on one page of traces: 8 bytes each while it is sent. */
#ifndef MONITOR_EVENTS_MAX
#define MONITOR_EVENTS_MAX 300
#endif

/* A point of the charts, in ms, and points kept: 8 bytes each for seven series. */
#ifndef MONITOR_SAMPLE_MS
#define MONITOR_SAMPLE_MS 60000
#endif
#ifndef MONITOR_SAMPLES
#define MONITOR_SAMPLES 60
#endif

/* ---- end of options; modules add their sections above ------------------------------------- */

#endif
