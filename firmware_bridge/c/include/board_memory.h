/* All of C's library that is needed. Compilers want these three also where there is no library, and no string.h. */

#ifndef BOARD_MEMORY_H
#define BOARD_MEMORY_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *one, const void *other, size_t size);

#endif
