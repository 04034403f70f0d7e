/* The same without help of the processor, as on other machines. */
#define CRC_MACHINE 0
#include "crc.c"
#include "test_crc.c"
