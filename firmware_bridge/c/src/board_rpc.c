#include "board.h"
#include "board_memory.h"

enum { REQUEST = 1, REPLY = 2, EXCEPTION = 3 };
enum { BY_VALUE = 1, AS_TUPLE = 2, OURS = 3, THEIRS = 4, LAST_LABEL = 5 };
enum {
    PING = 1, CLOSE, GETROOT, GETATTR, DELATTR, SETATTR, CALL, CALLATTR, REPR, STR, CMP, HASH, DIR, PICKLE, DEL, INSPECT,
    BUFFITER, OLDSLICING, CTXEXIT, INSTANCECHECK, HELLO = 71,
};

/* Objects have the same number for ever: a reference needs no memory, and giving one back does nothing. A method's is
 * its object's first one and its place in the table. */
enum { ROOT = 1, DEVICE = 2, METHOD = 3, OF_ROOT = 16, OF_DEVICE = 256 };

/* What an answer is made of, beside the values of a function: those are board_type. */
enum { IS_ECHO = BOARD_BYTES + 1, IS_REFERENCE, IS_SHOWN, IS_NAMES, IS_METHODS, IS_GREETING, IS_SUMMARY, IS_MEMBERS, IS_ERROR };

/* ------------------------------------------------------------------------------------------------------------ the root */

#if BOARD_DESCRIBE
static const char *describe(const board_value *arguments, board_value *result)
{
    result->type = arguments->type == BOARD_NONE ? IS_SUMMARY : IS_MEMBERS;
    return 0;
}
#endif

static const char *get_device(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = IS_REFERENCE;
    return 0;
}

static const char *get_service_name(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_STR;
    result->as.s = "BOARD";
    result->size = 5;
    return 0;
}

static const char *test_safe(const board_value *arguments, board_value *result)
{
    (void)arguments;
    board_port_make_safe();
    result->type = BOARD_BOOL;
    result->as.b = true;
    return 0;
}

/* The one argument is the device's name, and no other. */
static const board_argument the_device[] = {BOARD_ARG("name", BOARD_STR)};

static const board_member root[] = {
#if BOARD_DESCRIBE
    {.name = "describe", .doc = "", .call = describe, .arguments = the_device, .count = 1, .optional = 1},
#endif
    {.name = "device", .doc = "", .call = get_device, .arguments = the_device, .count = 1},
    {.name = "get_service_name", .doc = "", .call = get_service_name, .result = BOARD_STR},
    {.name = "test_safe", .doc = "", .call = test_safe, .arguments = the_device, .count = 1, .optional = 1, .result = BOARD_BOOL},
};
#define ROOT_COUNT (sizeof root / sizeof *root)

/* ----------------------------------------------------------------------------------------------------------- objects */

/* The members of an object. */
static const board_member *members_of(const board_rpc *self, uint16_t object, uint16_t *count, uint16_t *first)
{
    if (object == ROOT) {
        *count = ROOT_COUNT;
        *first = OF_ROOT;
        return root;
    }
    *count = object == DEVICE ? self->table->count : 0;
    *first = OF_DEVICE;
    return self->table->members;
}

/* The member that a number stands for; 0 where it stands for an object, or for nothing. */
static const board_member *member_of(const board_rpc *self, uint16_t number)
{
    uint16_t count, first;
    const board_member *members = members_of(self, number < OF_DEVICE ? ROOT : DEVICE, &count, &first);

    return number >= first && number < first + count ? &members[number - first] : 0;
}

/* ---------------------------------------------------------------------------------------------------------- the answer */

/* What a template speaks of. */
typedef struct {
    const board_rpc *self;
    const board_member *member;
    const board_argument *argument;
} subject;

/* An error's text begins with the digit that says which it is: the builtin class, and the exact code. */
#define DENIED "0"
#define BAD_REQUEST "1"
#define DEVICE_ERROR "2"
#define NOT_FOUND "3"
#define TYPE_ERROR "4"
#define OUT_OF_RANGE "5"
typedef struct {
    const char *name, *code;
} error_class;
static const error_class errors[] = {
    {"AttributeError", "access-denied"}, {"TypeError", "bad-request"}, {"RuntimeError", "device-error"},
    {"LookupError", "not-found"},        {"TypeError", "type-error"},  {"ValueError", "out-of-range"},
};

/* Where the word is that stands for a letter in a template: in which of the places that `word_of` knows, and where there.
 * It is a pointer to text, or from `FIRST` on the number of a name, counted from there. */
enum { OF_TABLE, OF_MEMBER, OF_ARGUMENT, OF_ANSWER, OF_ERROR };
enum { TEXT, FIRST, TYPE = FIRST, KIND = TYPE + BOARD_BYTES + 1, ACCESS = KIND + 2 };
static const char *const names[] = {"None", "bool", "int", "float", "str", "bytes", "method", "property", "read", "control"};
static const struct {
    char letter;
    uint8_t of, offset, how;
} words[] = {
    {'n', OF_TABLE, offsetof(board_table, name), TEXT},
    {'m', OF_MEMBER, offsetof(board_member, name), TEXT},
    {'d', OF_MEMBER, offsetof(board_member, doc), TEXT},
    {'v', OF_MEMBER, offsetof(board_member, result), TYPE},
    {'a', OF_ARGUMENT, offsetof(board_argument, name), TEXT},
    {'r', OF_ARGUMENT, offsetof(board_argument, range), TEXT},
    {'t', OF_ARGUMENT, offsetof(board_argument, type), TYPE},
    {'q', OF_ANSWER, offsetof(board_answer, quoted), TEXT},
    {'p', OF_ANSWER, offsetof(board_answer, problem), TEXT},
    {'E', OF_ERROR, offsetof(error_class, name), TEXT},
    {'C', OF_ERROR, offsetof(error_class, code), TEXT},
#if BOARD_DESCRIBE
    {'D', OF_TABLE, offsetof(board_table, driver), TEXT},
    {'T', OF_TABLE, offsetof(board_table, doc), TEXT},
    {'i', OF_TABLE, offsetof(board_table, identity), TEXT},
    {'s', OF_TABLE, offsetof(board_table, safe_state), TEXT},
    {'u', OF_MEMBER, offsetof(board_member, unit), TEXT},
    {'k', OF_MEMBER, offsetof(board_member, is_property), KIND},
    {'c', OF_MEMBER, offsetof(board_member, access), ACCESS},
#endif
};

static const char *word_of(char letter, const subject *of)
{
    const board_answer *answer = &of->self->answer;
    const void *const places[] = {
        of->self->table, of->member, of->argument, answer, answer->error ? &errors[*answer->error - '0'] : 0,
    };
    size_t which = 0;
    const uint8_t *at;
    const char *text;

    while (words[which].letter != letter)
        which++;
    at = (const uint8_t *)places[words[which].of] + words[which].offset;
    if (words[which].how != TEXT)
        return names[words[which].how - FIRST + *at];
    memcpy(&text, at, sizeof text);
    return text;
}

/* Writes a template: its bytes as they are, `{` and `}` around what becomes a text, and behind a `%`
 * `S` `(channel: int, duty: float) -> None`, the signature of the member
 * `R` a line for each of its arguments that has a range
 * `P` the text of the error
 * `W` whether the member can be set
 * another letter: its word.
 * Ends at the template's end or its `}`, and answers where that is. */
static const char *expand(board_sink *to, const subject *of, const char *template);

static void put_signature(board_sink *to, const subject *of)
{
    const board_member *member = of->member;
    subject each = *of;

    if (!member->is_property) {
        board_put(to, '(');
        for (uint8_t place = 0; place < member->count; place++) {
            each.argument = &member->arguments[place];
            expand(to, &each, place ? ", %a: %t" : "%a: %t");
        }
        board_put_chars(to, ") ");
    }
    expand(to, of, "-> %v");
}

static void put_ranges(board_sink *to, const subject *of)
{
    const board_member *member = of->member;
    subject each = *of;

    for (uint8_t place = 0; place < member->count; place++) {
        each.argument = &member->arguments[place];
        if (each.argument->bounded)
            expand(to, &each, "\n\n%a: %r");
    }
}

static const char *expand(board_sink *to, const subject *of, const char *template)
{
    for (; *template && *template != '}'; template++) {
        if (*template == '{') { /* once to count, once to write */
            board_sink counting = {0, 0, 0, 0};
            expand(&counting, of, template + 1);
            board_put_text_head(to, counting.count);
            template = expand(to, of, template + 1);
        } else if (*template != '%') {
            board_put(to, (uint8_t)*template);
        } else if (*++template == 'S') {
            put_signature(to, of);
        } else if (*template == 'R') {
            put_ranges(to, of);
        } else if (*template == 'P') {
            expand(to, of, of->self->answer.error + 1);
#if BOARD_DESCRIBE
        } else if (*template == 'W') {
            board_put_bool(to, of->member->set != 0);
#endif
        } else {
            board_put_chars(to, word_of(*template, of));
        }
    }
    return template;
}

/* Brine's tags of tuples and of small ints, for templates. */
#define TUPLE_1 "\x10"
#define PAIR "\x11"
#define TUPLE_3 "\x12"
#define TUPLE_4 "\x13"
#define TUPLE_7 "\x14\x07"
#define INT_1 "\x51"
#define INT_2 "\x52"
#define INT_3 "\x53"

/* A tuple of what a template makes of the members of an object. The device is the one property of the root. */
static void put_each(board_sink *to, subject *of, uint16_t object, const char *template, bool with_properties)
{
    uint16_t count, first, taken = 0;
    const board_member *members = members_of(of->self, object, &count, &first);
    bool names_device = object == ROOT && with_properties;

    for (uint16_t place = 0; place < count; place++)
        taken = (uint16_t)(taken + (with_properties || !members[place].is_property));
    board_put_tuple(to, (size_t)taken + names_device);
    for (of->member = members; count--; of->member++)
        if (with_properties || !of->member->is_property)
            expand(to, of, template);
    if (names_device)
        expand(to, of, "{%n}");
}

#if BOARD_DESCRIBE
/* ((name, (("driver", driver), ...)),): pairs where Python would have a dict, which is no value of brine's. */
static void put_summary(board_sink *to, const subject *of)
{
    expand(to, of,
           TUPLE_1 PAIR "{%n}" TUPLE_7 PAIR "{driver}{%D}" PAIR "{doc}{%T}" PAIR "{state}{open}" PAIR "{identity}{%i}" PAIR
                        "{safe_state}{%s}" PAIR "{sole}\x03" PAIR "{needs_lease}");
    board_put_bool(to, *of->self->table->safe_state);
}

#endif

static void put_reference(board_sink *to, const subject *of, uint16_t number)
{
    expand(to, of,
           number == ROOT     ? TUPLE_3 "{board.Root}" INT_1
           : number == DEVICE ? TUPLE_3 "{board.Device}" INT_2
                              : TUPLE_3 "{builtins.method}" INT_3);
    board_put_int(to, number);
}

static void put_cursor(board_sink *to, const board_cursor *bytes)
{
    board_put_raw(to, bytes->at, (size_t)(bytes->end - bytes->at));
}

static void put_answer(board_sink *to, const board_rpc *self)
{
    const board_answer *answer = &self->answer;
    subject of = {self, answer->member, answer->argument};

    board_put(to, answer->kind == IS_ERROR ? EXCEPTION : REPLY);
    board_put_tuple(to, 2);
    put_cursor(to, &answer->seq);
    if (answer->kind == IS_ERROR) { /* ((module, class), (text,), ((attribute, value), ...), traceback) */
        expand(to, &of,
               TUPLE_4 PAIR "{builtins}{%E}" TUPLE_1 "{%P}" TUPLE_1 PAIR "{code}{%C}{<traceback denied>}");
        return;
    }
    board_put_tuple(to, 2);
    board_put_int(to, answer->kind == IS_REFERENCE ? THEIRS : BY_VALUE);
    switch (answer->kind) {
    case IS_ECHO:
        put_cursor(to, &answer->echo);
        break;
    case IS_REFERENCE:
        put_reference(to, &of, answer->number);
        break;
    case IS_SHOWN:
        of.member = member_of(self, answer->number);
        expand(to, &of, of.member ? "{<%n.%m>}" : "{<%n>}");
        break;
    case IS_NAMES:
        put_each(to, &of, answer->number, "{%m}", true);
        break;
    case IS_GREETING: /* a device profile's INSPECT lists just what can be called */
        expand(to, &of, TUPLE_3 INT_1 PAIR "{device-profile}{short-references}");
        /* and the methods of the root */
        /* fallthrough */
    case IS_METHODS: /* ((name, documentation), ...); of a method itself it is `__call__` */
        of.member = member_of(self, answer->number);
        if (of.member)
            expand(to, &of, TUPLE_1 PAIR "{__call__}{%m%S\n\n%d%R}");
        else
            put_each(to, &of, answer->number, PAIR "{%m}{%m%S\n\n%d%R}", false);
        break;
#if BOARD_DESCRIBE
    case IS_SUMMARY:
        put_summary(to, &of);
        break;
    case IS_MEMBERS:
        expand(to, &of, TUPLE_1 PAIR "{members}");
        put_each(to, &of, DEVICE,
                 TUPLE_7 PAIR "{name}{%m}" PAIR "{kind}{%k}" PAIR "{access}{%c}" PAIR "{unit}{%u}" PAIR "{settable}%W" PAIR
                         "{signature}{%S}" PAIR "{doc}{%d%R}",
                 true);
        break;
#endif
    default:
        board_put_value(to, &answer->value);
        break;
    }
}

size_t board_rpc_source(void *of, size_t offset, uint8_t *bytes, size_t room)
{
    board_sink sink = {bytes, room, offset, 0};

    put_answer(&sink, of);
    return sink.count;
}

/* ---------------------------------------------------------------------------------------------------- ways to answer */

/* The call raises an exception: `text` begins with its digit, see `errors`. What the text refers to is set before. False. */
static bool fail(board_rpc *self, const char *text)
{
    self->answer.kind = IS_ERROR;
    self->answer.error = text;
    return false;
}

/* What no RPyC peer sends. */
static bool malformed(board_rpc *self)
{
    return fail(self, BAD_REQUEST "the handler takes other arguments, by value");
}

/* Keep what a peer said for an error to quote: its beginning, and what can be shown of it. */
static void quote(board_rpc *self, const char *text, size_t size)
{
    char *to = self->answer.quote;

    for (size_t place = 0; place < size && place < BOARD_QUOTE; place++)
        *to++ = text[place] >= ' ' && text[place] <= '~' ? text[place] : '?';
    *to = 0;
}

static bool deny(board_rpc *self, const char *operation)
{
    self->answer.problem = operation;
    return fail(self, DENIED "%n: '%q' is not exposed for %p; dir() lists what is");
}

static void answer_about(board_rpc *self, uint8_t kind, uint16_t number)
{
    self->answer.kind = kind;
    self->answer.number = number;
}

static void answer_truth(board_rpc *self, bool truth)
{
    self->answer.kind = self->answer.value.type = BOARD_BOOL;
    self->answer.value.as.b = truth;
}

/* --------------------------------------------------------------------------------------- the arguments of a request */

/* The items of a tuple, which came as one value or as a tuple of boxes. */
typedef struct {
    board_cursor rest;
    size_t count;
    bool boxed;
} items;

static bool read_tuple_of(board_cursor *from, size_t wanted)
{
    size_t count;

    return board_read_tuple(from, &count) && count == wanted;
}

static bool read_box(board_cursor *from, uint8_t *label, board_cursor *value)
{
    board_int number;

    if (!read_tuple_of(from, 2) || !board_read_int(from, &number) || number < BY_VALUE || number > LAST_LABEL)
        return false;
    *label = (uint8_t)number;
    return board_read_any(from, value);
}

/* The next item's label; 0 where there is none. */
static uint8_t next(items *from, board_cursor *value)
{
    uint8_t label = BY_VALUE;

    if (!from->count)
        return 0;
    from->count--;
    return (from->boxed ? read_box(&from->rest, &label, value) : board_read_any(&from->rest, value)) ? label : 0;
}

/* The next item, which must go by value. */
static bool next_value(board_rpc *self, items *from, board_cursor *value)
{
    return next(from, value) == BY_VALUE || malformed(self);
}

/* A name, which is quoted. */
static bool read_name(board_rpc *self, board_cursor *from, const char **name, size_t *size)
{
    if (!board_read_text(from, name, size))
        return malformed(self);
    quote(self, *name, *size);
    return true;
}

/* A number of ours; 0 where the reference is none. */
static uint16_t number_in(board_cursor from, const board_rpc *self)
{
    board_cursor ignored, tuple = from;
    board_int number;

    if (read_tuple_of(&tuple, 3)) { /* (name, number of the class, number); else the number alone: short-references */
        from = tuple;
        board_read_any(&from, &ignored);
        board_read_any(&from, &ignored);
    }
    if (!board_read_int(&from, &number) || number < 0 || number > UINT16_MAX)
        return 0;
    return number == ROOT || number == DEVICE || member_of(self, (uint16_t)number) ? (uint16_t)number : 0;
}

/* How many characters a name has in common with the beginning of a known one. */
static size_t common(const char *name, size_t size, const char *known)
{
    size_t place = 0;

    while (place < size && known[place] && name[place] == known[place])
        place++;
    return place;
}

static bool is_named(const char *name, size_t size, const char *known)
{
    return common(name, size, known) == size && !known[size];
}

/* The member of an object that is named next: its number, 0 where there is none. */
static bool next_member(board_rpc *self, items *from, uint16_t object, uint16_t *number)
{
    static const char exposed[] = "exposed_";
    board_cursor word;
    const char *name;
    size_t size;
    uint16_t count, first;
    const board_member *members = members_of(self, object, &count, &first);

    if (!next_value(self, from, &word) || !read_name(self, &word, &name, &size))
        return false;
    if (common(name, size, exposed) == sizeof exposed - 1) {
        name += sizeof exposed - 1;
        size -= sizeof exposed - 1;
    }
    *number = 0;
    if (member_of(self, object) && is_named(name, size, "__call__"))
        *number = object;
    if (object == ROOT && is_named(name, size, self->table->name))
        *number = DEVICE;
    for (; count--; members++, first++)
        if (is_named(name, size, members->name))
            *number = first;
    return true;
}

/* ------------------------------------------------------------------------------------------------------------- calls */

/* Whether a value is what the table wants, after making a float of an int. Otherwise the answer says why. */
static bool fits(board_rpc *self, const board_argument *wanted, board_value *value)
{
    bool inside = true;

    self->answer.argument = wanted;
    if (wanted->type == BOARD_FLOAT && value->type == BOARD_INT) {
        value->type = BOARD_FLOAT;
        value->as.f = board_double_of(value->as.i);
    }
    if (value->type != wanted->type)
        return fail(self, TYPE_ERROR "%m: %a must be of type %t");
    if (wanted == the_device)
        return is_named(value->as.s, value->size, self->table->name) || fail(self, NOT_FOUND "no such device here; there is: %n");
    if (!wanted->bounded)
        return true;
    if (wanted->type == BOARD_INT)
        inside = value->as.i >= wanted->bounds.i.lowest && value->as.i <= wanted->bounds.i.highest;
    else
        inside = board_double_order(value->as.f) >= board_double_order(wanted->bounds.f.lowest) &&
                 board_double_order(value->as.f) <= board_double_order(wanted->bounds.f.highest);
    return inside || fail(self, OUT_OF_RANGE "%m: %a must be from %r");
}

static bool read_value(board_rpc *self, board_cursor *from, board_value *value)
{
    return board_read_value(from, value) || fail(self, BAD_REQUEST "%m: arguments are bool, int, float, str or bytes, by value");
}

static void run(board_rpc *self, board_function function, const board_value *arguments)
{
    board_value *result = &self->answer.value;

    memset(result, 0, sizeof *result);
    self->answer.problem = function(arguments, result);
    if (self->answer.problem) {
        fail(self, DEVICE_ERROR "%p");
        return;
    }
    self->answer.kind = result->type;
    if (result->type == IS_REFERENCE)
        self->answer.number = DEVICE; /* the root's `device` */
}

/* Arguments that are given by name: ((name, value), ...). */
static bool take_named(board_rpc *self, items *from, const board_member *member, board_value *values, uint32_t *given)
{
    board_cursor pairs;
    size_t count, size;
    const char *name;

    if (!from->count)
        return true;
    if (!next_value(self, from, &pairs))
        return false;
    if (!board_read_tuple(&pairs, &count))
        return malformed(self);
    while (count--) {
        uint8_t place = 0;
        if (!read_tuple_of(&pairs, 2))
            return malformed(self);
        if (!read_name(self, &pairs, &name, &size))
            return false;
        while (place < member->count && !is_named(name, size, member->arguments[place].name))
            place++;
        if (place == member->count || *given >> place & 1)
            return fail(self, TYPE_ERROR "%m: '%q' is no argument, or given twice");
        *given |= 1u << place;
        if (!read_value(self, &pairs, &values[place]))
            return false;
    }
    return true;
}

/* Call the method that `number` refers to with the arguments that are left. */
static void call(board_rpc *self, uint16_t number, items *from)
{
    const board_member *member = member_of(self, number);
    board_value values[BOARD_ARGUMENTS];
    board_cursor given;
    size_t count;
    uint32_t which = 0;
    uint8_t place;

    if (!member || member->is_property || member->count > BOARD_ARGUMENTS) {
        deny(self, "call");
        return;
    }
    self->answer.member = member;
    if (!next_value(self, from, &given))
        return;
    if (!board_read_tuple(&given, &count)) {
        malformed(self);
        return;
    }
    if (count > member->count) {
        fail(self, TYPE_ERROR "%m: too many arguments");
        return;
    }
    for (place = 0; place < count; place++)
        if (!read_value(self, &given, &values[place]))
            return;
    which = (1u << count) - 1;
    if (!take_named(self, from, member, values, &which))
        return;
    for (place = 0; place < member->count; place++) {
        bool may_miss = place + member->optional >= member->count;
        self->answer.argument = &member->arguments[place];
        if (!(which >> place & 1))
            values[place].type = BOARD_NONE;
        if (may_miss && values[place].type == BOARD_NONE)
            continue;
        if (!(which >> place & 1)) {
            fail(self, TYPE_ERROR "%m: %a is missing");
            return;
        }
        if (!fits(self, &member->arguments[place], &values[place]))
            return;
    }
    run(self, member->call, values);
}

/* ------------------------------------------------------------------------------------------------------------ handlers */

static void get_attribute(board_rpc *self, uint16_t number)
{
    const board_member *member = member_of(self, number);

    if (!number)
        deny(self, "read");
    else if (member && member->is_property)
        run(self, member->call, 0);
    else
        answer_about(self, IS_REFERENCE, number);
}

static void set_attribute(board_rpc *self, uint16_t number, items *from)
{
    const board_member *member = member_of(self, number);
    board_cursor given;
    board_value value;

    if (!member || !member->set) {
        deny(self, "set");
        return;
    }
    self->answer.member = member;
    if (next_value(self, from, &given) && read_value(self, &given, &value) && fits(self, member->arguments, &value)) {
        run(self, member->set, &value);
        if (self->answer.kind != IS_ERROR)
            self->answer.kind = self->answer.value.type = BOARD_NONE;
    }
}

static void compare(board_rpc *self, uint16_t object, items *from)
{
    board_cursor other, word;
    const char *name;
    size_t size;
    uint8_t label = next(from, &other);
    bool same = label == OURS && number_in(other, self) == object;

    if (!next_value(self, from, &word) || !read_name(self, &word, &name, &size))
        return;
    if (is_named(name, size, "__eq__") || is_named(name, size, "__ne__"))
        answer_truth(self, same == (name[2] == 'e'));
    else
        deny(self, "call");
}

static void about(board_rpc *self, board_int handler, uint16_t object, items *from)
{
    uint16_t member = 0;

    if ((handler == GETATTR || handler == SETATTR || handler == CALLATTR) && !next_member(self, from, object, &member))
        return;
    switch (handler) {
    case GETATTR:
        get_attribute(self, member);
        break;
    case SETATTR:
        set_attribute(self, member, from);
        break;
    case CALL:
    case CALLATTR:
        call(self, handler == CALL ? object : member, from);
        break;
    case REPR:
    case STR:
        answer_about(self, IS_SHOWN, object);
        break;
    case HASH:
        self->answer.kind = self->answer.value.type = BOARD_INT;
        self->answer.value.as.i = object;
        break;
    case CMP:
        compare(self, object, from);
        break;
    case DIR:
        answer_about(self, IS_NAMES, object);
        break;
    case DEL: /* there is nothing to give back */
        break;
    case INSPECT:
        answer_about(self, IS_METHODS, object);
        break;
    default: /* DELATTR, PICKLE, BUFFITER, OLDSLICING, CTXEXIT, INSTANCECHECK */
        deny(self, "this");
        break;
    }
}

static void handle(board_rpc *self, board_int handler, items *from)
{
    board_cursor target;
    uint16_t object;

    if (handler == PING) {
        self->answer.kind = IS_ECHO;
        next_value(self, from, &self->answer.echo);
    } else if (handler == GETROOT) {
        answer_about(self, IS_REFERENCE, ROOT);
    } else if (handler == HELLO) {
        answer_about(self, IS_GREETING, ROOT);
    } else if (handler < GETATTR || handler > INSTANCECHECK) {
        fail(self, BAD_REQUEST "no such handler");
    } else if (next(from, &target) != (handler == INSPECT ? BY_VALUE : OURS)) {
        malformed(self);
    } else {
        object = number_in(target, self);
        if (object)
            about(self, handler, object, from);
        else
            fail(self, NOT_FOUND "no such object here");
    }
}

bool board_rpc_serve(board_rpc *self, const uint8_t *message, size_t size)
{
    board_cursor from = {message, message + size};
    board_answer *answer = &self->answer;
    board_int handler;
    uint8_t label;
    items arguments;

    memset(answer, 0, sizeof *answer);
    answer->quoted = answer->quote;
    if (!size || *from.at++ != REQUEST || !read_tuple_of(&from, 2) || !board_read_any(&from, &answer->seq))
        return false;
    if (!read_tuple_of(&from, 2) || !board_read_int(&from, &handler) ||
        !read_box(&from, &label, &arguments.rest) || from.at != from.end || label > AS_TUPLE ||
        !board_read_tuple(&arguments.rest, &arguments.count)) {
        fail(self, BAD_REQUEST "no request, or too long a one");
        return true;
    }
    arguments.boxed = label == AS_TUPLE;
    if (handler == CLOSE)
        return false;
    handle(self, handler, &arguments);
    return true;
}
