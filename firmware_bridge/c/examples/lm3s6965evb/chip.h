/* What the example uses of the LM3S6965: two UARTs (PL011), two ports of pins (PL061) and the SysTick timer. */

#ifndef CHIP_H
#define CHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void chip_init(void);
uint32_t chip_milliseconds(void);

/* The host's line. Bytes that come while the buffer is full are lost, and counted. */
size_t chip_read(uint8_t *bytes, size_t most);
size_t chip_write(const uint8_t *bytes, size_t count);
extern volatile uint32_t chip_overruns;
/* Lose the next bytes, as a line does that nobody reads in time. */
void chip_lose(uint32_t bytes);

/* One line of text on the second UART, with the time in front of it. Waits until it has left. */
void chip_tell(const char *text, uint32_t number);

/* Port B: eight pins. Port D: four outputs that are on for so many thousandths of the time. */
void chip_set_pins(uint8_t levels);
uint8_t chip_pins(void);
void chip_set_duty(uint8_t channel, uint16_t thousandths);

/* Until something comes, or a millisecond has passed. */
void chip_idle(void);
void chip_reset(void);
void chip_hang(void);

#endif
