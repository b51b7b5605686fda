/* Brine, RPyC's encoding of immutable values: reading it where it lies, and writing it into a window.
 *
 * What is written goes through a sink, which keeps the bytes from `skip` on, as many as there is room for, and counts
 * them all. So an answer of any length can be made piece by piece, by making it again for each piece.
 */

#ifndef BOARD_BRINE_H
#define BOARD_BRINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board_table.h"

/* ------------------------------------------------------------------------------------------------------------ reading */

typedef struct {
    const uint8_t *at, *end;
} board_cursor;

/* Each takes one value off the front; false where it is another one, is cut short, or is none at all. */
bool board_read_tuple(board_cursor *from, size_t *count);
bool board_read_int(board_cursor *from, board_int *number);
bool board_read_text(board_cursor *from, const char **text, size_t *size);
/* Any value but a tuple, a slice, a frozenset, a complex number, Ellipsis and NotImplemented. */
bool board_read_value(board_cursor *from, board_value *value);
/* Any value, which is not looked at: `what` is the place where it lies. */
bool board_read_any(board_cursor *from, board_cursor *what);

/* ------------------------------------------------------------------------------------------------------------ writing */

typedef struct {
    uint8_t *at;
    size_t room;
    size_t skip;
    size_t count;
} board_sink;

void board_put(board_sink *to, uint8_t byte);
void board_put_raw(board_sink *to, const void *bytes, size_t size);
void board_put_chars(board_sink *to, const char *text); /* up to its zero */
void board_put_tuple(board_sink *to, size_t count);     /* its values are to follow */
void board_put_int(board_sink *to, board_int number);
void board_put_bool(board_sink *to, bool truth);
void board_put_text(board_sink *to, const char *text);
void board_put_text_head(board_sink *to, size_t size); /* so many bytes of text are to follow */
void board_put_value(board_sink *to, const board_value *value);

size_t board_length(const char *text);

double board_double_of(board_int number);
/* A number that grows with the double. A NaN's is beyond that of the infinity of its sign, so within no bounds. */
int64_t board_double_order(double number);

#endif
