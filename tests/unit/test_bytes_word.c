/* The same a word a step, as on machines that cannot look at more. */
#define BYTES_WIDE 0
#include "bytes.c"
#include "test_bytes.c"
