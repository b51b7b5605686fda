#include "board.h"

/* For a port that has nothing better. What the RAM held at power-up is as good a beginning as any; after a reset, which
 * leaves this part of it alone, it goes on from there. */
uint32_t board_nonce(void)
{
    static uint32_t state[3] __attribute__((section(".noinit")));

    state[0]++;
    state[1] ^= board_port_milliseconds();
    state[2] = board_crc32(state[2], (const uint8_t *)state, sizeof state);
    return state[2] ? state[2] : 1;
}
