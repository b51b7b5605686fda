/* What a board offers: values, functions, and the table in flash that says which of them a peer can reach, and how. */

#ifndef BOARD_TABLE_H
#define BOARD_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "board_config.h"

#if BOARD_INT_BITS == 64
typedef int64_t board_int;
typedef uint64_t board_uint;
#define BOARD_INT_MAX INT64_MAX
#else
typedef int32_t board_int;
typedef uint32_t board_uint;
#define BOARD_INT_MAX INT32_MAX
#endif

/* ---------------------------------------------------------------------------------------------- values and functions */

typedef enum {
    BOARD_NONE,
    BOARD_BOOL,  /* as.b */
    BOARD_INT,   /* as.i; a number that is longer is refused */
    BOARD_FLOAT, /* as.f, IEEE 754 double; takes an int too */
    BOARD_STR,   /* as.s, size bytes of UTF-8, without a zero at the end */
    BOARD_BYTES, /* as.s, size bytes */
} board_type;

typedef struct board_value {
    uint8_t type;
    uint16_t size;
    union {
        bool b;
        board_int i;
        double f;
        const char *s; /* of an argument: valid until the function returns; of a result: until the next one is called */
    } as;
} board_value;

/* Does it. `result` is None before. The answer is 0, or the text of an error: a RuntimeError for the caller. */
typedef const char *(*board_function)(const board_value *arguments, board_value *result);

/* ------------------------------------------------------------------------------------------------ the exposure table */

typedef struct {
    const char *name;
    uint8_t type;
    bool bounded;
    union {
        struct {
            board_int lowest, highest;
        } i;
        struct {
            double lowest, highest;
        } f;
    } bounds;
    const char *range; /* for people */
} board_argument;

typedef enum { BOARD_READ, BOARD_CONTROL } board_access;

typedef struct {
    const char *name;
    const char *doc;
    const char *unit; /* of the result, "" where it has none */
    board_function call;
    board_function set; /* of a property that can be set: `arguments` is the value */
    const board_argument *arguments;
    uint8_t count;
    uint8_t optional; /* so many of the arguments, the last ones, may be left out: they are None then */
    uint8_t result;
    uint8_t access;
    bool is_property;
} board_member;

typedef struct board_table {
    const char *name;       /* of the device: an identifier */
    const char *driver;     /* what kind of device it is: an identifier */
    const char *doc;
    const char *identity;   /* firmware and its version, a serial number */
    const char *safe_state; /* in words: what board_port_make_safe does; "" where it does nothing */
    const board_member *members;
    uint8_t count;
} board_table;

#define BOARD_ARG(NAME, TYPE) { .name = NAME, .type = TYPE }
#define BOARD_ARG_INT(NAME, LOWEST, HIGHEST) \
    { .name = NAME, .type = BOARD_INT, .bounded = true, .bounds.i = { LOWEST, HIGHEST }, .range = #LOWEST " to " #HIGHEST }
#define BOARD_ARG_FLOAT(NAME, LOWEST, HIGHEST) \
    { .name = NAME, .type = BOARD_FLOAT, .bounded = true, .bounds.f = { LOWEST, HIGHEST }, .range = #LOWEST " to " #HIGHEST }

/* A method: its arguments are an array of board_argument, or 0 with a count of 0. */
#define BOARD_METHOD(NAME, FUNCTION, ARGUMENTS, COUNT, RESULT, UNIT, ACCESS, DOC) \
    { .name = NAME, .doc = DOC, .unit = UNIT, .call = FUNCTION, .arguments = ARGUMENTS, .count = COUNT, \
      .result = RESULT, .access = ACCESS }
#define BOARD_PROPERTY(NAME, GET, RESULT, UNIT, DOC) \
    { .name = NAME, .doc = DOC, .unit = UNIT, .call = GET, .result = RESULT, .access = BOARD_READ, .is_property = true }
/* A property that can be set: VALUE is a board_argument with its range. */
#define BOARD_SETTABLE(NAME, GET, SET, VALUE, RESULT, UNIT, DOC) \
    { .name = NAME, .doc = DOC, .unit = UNIT, .call = GET, .set = SET, .arguments = VALUE, .count = 1, .result = RESULT, \
      .access = BOARD_READ, .is_property = true }

#endif
