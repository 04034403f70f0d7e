/* crc: the CRC-32 of IEEE 802.3 (reflected, 0xEDB88320), as zip, gzip and Ethernet use it. */
#ifndef CRC_H
#define CRC_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of what `crc` was of, followed by n bytes more. Begin with 0. */
uint32_t crc_add(uint32_t crc, const void *p, size_t n);

#endif
