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

static const char *const type_names[] = {"None", "bool", "int", "float", "str", "bytes"};

/* ------------------------------------------------------------------------------------------------------------ the root */

static const char *describe(const board_value *arguments, board_value *result)
{
    result->type = arguments->type == BOARD_NONE ? IS_SUMMARY : IS_MEMBERS;
    return 0;
}

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
    {.name = "describe", .doc = "", .call = describe, .arguments = the_device, .count = 1, .optional = 1},
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

static void put_pair(board_sink *to, const char *key, const char *text)
{
    board_put_tuple(to, 2);
    board_put_text(to, key);
    board_put_text(to, text);
}

static void put_truth(board_sink *to, const char *key, bool truth)
{
    board_put_tuple(to, 2);
    board_put_text(to, key);
    board_put_bool(to, truth);
}

/* A text of which only the pieces are there: once to count, once to write. */
typedef void (*pieces)(board_sink *to, const board_rpc *self, const board_member *member);

static void put_pieces(board_sink *to, const board_rpc *self, pieces put, const board_member *member)
{
    board_sink counting = {0, 0, 0, 0};

    put(&counting, self, member);
    board_put_text_head(to, counting.count);
    put(to, self, member);
}

/* `(channel: int, duty: float) -> None` */
static void put_signature(board_sink *to, const board_rpc *self, const board_member *member)
{
    (void)self;
    if (!member->is_property) {
        board_put(to, '(');
        for (uint8_t place = 0; place < member->count; place++) {
            if (place)
                board_put_chars(to, ", ");
            board_put_chars(to, member->arguments[place].name);
            board_put_chars(to, ": ");
            board_put_chars(to, type_names[member->arguments[place].type]);
        }
        board_put_chars(to, ") ");
    }
    board_put_chars(to, "-> ");
    board_put_chars(to, type_names[member->result]);
}

/* What it does, and a line for each argument with a range. */
static void put_doc(board_sink *to, const board_rpc *self, const board_member *member)
{
    (void)self;
    board_put_chars(to, member->doc);
    for (uint8_t place = 0; place < member->count; place++) {
        const board_argument *argument = &member->arguments[place];
        if (argument->bounded) {
            board_put_chars(to, "\n\n");
            board_put_chars(to, argument->name);
            board_put_chars(to, ": ");
            board_put_chars(to, argument->range);
        }
    }
}

/* Name, signature and docstring, as INSPECT tells them. */
static void put_documentation(board_sink *to, const board_rpc *self, const board_member *member)
{
    board_put_chars(to, member->name);
    put_signature(to, self, member);
    board_put_chars(to, "\n\n");
    put_doc(to, self, member);
}

/* ((name, documentation), ...) of the methods of an object; of a method itself it is `__call__`. */
static void put_methods(board_sink *to, const board_rpc *self, uint16_t object)
{
    uint16_t count, first, methods = 0;
    const board_member *itself = member_of(self, object);
    const board_member *members = members_of(self, object, &count, &first);

    for (uint16_t place = 0; place < count; place++)
        methods = (uint16_t)(methods + !members[place].is_property);
    board_put_tuple(to, itself ? 1 : methods);
    if (itself) {
        members = itself;
        count = 1;
    }
    for (uint16_t place = 0; place < count; place++) {
        if (!members[place].is_property) {
            board_put_tuple(to, 2);
            board_put_text(to, itself ? "__call__" : members[place].name);
            put_pieces(to, self, put_documentation, &members[place]);
        }
    }
}

static void put_names(board_sink *to, const board_rpc *self, uint16_t object)
{
    uint16_t count, first;
    const board_member *members = members_of(self, object, &count, &first);

    board_put_tuple(to, (size_t)count + (object == ROOT));
    for (uint16_t place = 0; place < count; place++)
        board_put_text(to, members[place].name);
    if (object == ROOT)
        board_put_text(to, self->table->name);
}

/* (("driver", driver), ...): pairs where Python would have a dict, which is no value of brine's. */
static void put_summary(board_sink *to, const board_table *table)
{
    board_put_tuple(to, 7);
    put_pair(to, "driver", table->driver);
    put_pair(to, "doc", table->doc);
    put_pair(to, "state", "open");
    put_pair(to, "identity", table->identity);
    put_pair(to, "safe_state", table->safe_state);
    put_truth(to, "needs_lease", *table->safe_state);
    put_truth(to, "sole", true);
}

static void put_member(board_sink *to, const board_rpc *self, const board_member *member)
{
    board_put_tuple(to, 7);
    put_pair(to, "name", member->name);
    put_pair(to, "kind", member->is_property ? "property" : "method");
    put_pair(to, "access", member->access == BOARD_READ ? "read" : "control");
    put_pair(to, "unit", member->unit);
    put_truth(to, "settable", member->set != 0);
    board_put_tuple(to, 2);
    board_put_text(to, "signature");
    put_pieces(to, self, put_signature, member);
    board_put_tuple(to, 2);
    board_put_text(to, "doc");
    put_pieces(to, self, put_doc, member);
}

/* ((name, summary),) or (("members", (member, ...)),) */
static void put_description(board_sink *to, const board_rpc *self, bool of_members)
{
    const board_table *table = self->table;

    board_put_tuple(to, 1);
    board_put_tuple(to, 2);
    board_put_text(to, of_members ? "members" : table->name);
    if (!of_members) {
        put_summary(to, table);
        return;
    }
    board_put_tuple(to, table->count);
    for (uint8_t place = 0; place < table->count; place++)
        put_member(to, self, &table->members[place]);
}

static void put_reference(board_sink *to, uint16_t number)
{
    uint16_t kind = number < METHOD ? number : METHOD;

    board_put_tuple(to, 3);
    board_put_text(to, kind == ROOT ? "board.Root" : kind == DEVICE ? "board.Device" : "builtins.method");
    board_put_int(to, kind);
    board_put_int(to, number);
}

/* `<board>`, `<board.set_pwm>` */
static void put_shown(board_sink *to, const board_rpc *self, const board_member *member)
{
    board_put(to, '<');
    board_put_chars(to, self->table->name);
    if (member) {
        board_put(to, '.');
        board_put_chars(to, member->name);
    }
    board_put(to, '>');
}

/* The first character of an error's text says which it is: the builtin class, and the exact code. */
static const struct {
    char key;
    const char *name, *code;
} errors[] = {
    {'A', "AttributeError", "access-denied"}, {'B', "TypeError", "bad-request"},    {'D', "RuntimeError", "device-error"},
    {'L', "LookupError", "not-found"},        {'T', "TypeError", "type-error"},     {'V', "ValueError", "out-of-range"},
};

/* The text: `%` and a letter stand for what the answer has. */
static void put_error_text(board_sink *to, const board_rpc *self, const board_member *member)
{
    const board_answer *answer = &self->answer;

    (void)member;
    for (const char *each = answer->error + 1; *each; each++) {
        if (*each != '%') {
            board_put(to, (uint8_t)*each);
            continue;
        }
        switch (*++each) {
        case 'a':
            board_put_chars(to, answer->argument->name);
            break;
        case 'm':
            board_put_chars(to, answer->member->name);
            break;
        case 'n':
            board_put_chars(to, self->table->name);
            break;
        case 'q':
            board_put_chars(to, answer->quote);
            break;
        case 'r':
            board_put_chars(to, answer->argument->range);
            break;
        case 't':
            board_put_chars(to, type_names[answer->argument->type]);
            break;
        default:
            board_put_chars(to, answer->problem);
            break;
        }
    }
}

/* ((module, class), (text,), ((attribute, value), ...), traceback) */
static void put_error(board_sink *to, const board_rpc *self)
{
    size_t which = 0;

    while (errors[which].key != *self->answer.error)
        which++;
    board_put_tuple(to, 4);
    put_pair(to, "builtins", errors[which].name);
    board_put_tuple(to, 1);
    put_pieces(to, self, put_error_text, 0);
    board_put_tuple(to, 2);
    put_pair(to, "code", errors[which].code);
    put_pair(to, "_remote_version", "<version denied>");
    board_put_text(to, "<traceback denied>");
}

static void put_cursor(board_sink *to, const board_cursor *bytes)
{
    board_put_raw(to, bytes->at, (size_t)(bytes->end - bytes->at));
}

static void put_answer(board_sink *to, const board_rpc *self)
{
    const board_answer *answer = &self->answer;

    board_put(to, answer->kind == IS_ERROR ? EXCEPTION : REPLY);
    board_put_tuple(to, 2);
    put_cursor(to, &answer->seq);
    if (answer->kind == IS_ERROR) {
        put_error(to, self);
        return;
    }
    board_put_tuple(to, 2);
    board_put_int(to, answer->kind == IS_REFERENCE ? THEIRS : BY_VALUE);
    switch (answer->kind) {
    case IS_ECHO:
        put_cursor(to, &answer->echo);
        break;
    case IS_REFERENCE:
        put_reference(to, answer->number);
        break;
    case IS_SHOWN:
        put_pieces(to, self, put_shown, member_of(self, answer->number));
        break;
    case IS_NAMES:
        put_names(to, self, answer->number);
        break;
    case IS_GREETING:
        board_put_tuple(to, 3);
        board_put_int(to, 1);
        board_put_tuple(to, 2);
        board_put_text(to, "device-profile"); /* INSPECT lists just what can be called */
        board_put_text(to, "short-references");
        /* and the methods of the root */
        /* fallthrough */
    case IS_METHODS:
        put_methods(to, self, answer->number);
        break;
    case IS_SUMMARY:
    case IS_MEMBERS:
        put_description(to, self, answer->kind == IS_MEMBERS);
        break;
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

/* The call raises an exception: `text` begins with its key in `errors`. What the text refers to is set before. False. */
static bool fail(board_rpc *self, const char *text)
{
    self->answer.kind = IS_ERROR;
    self->answer.error = text;
    return false;
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
    return fail(self, "A%n: '%q' is not exposed for %o; dir() lists what is");
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

static bool read_box(board_cursor *from, uint8_t *label, board_cursor *value)
{
    size_t count;
    board_int number;

    if (!board_read_tuple(from, &count) || count != 2 || !board_read_int(from, &number) || number < BY_VALUE ||
        number > LAST_LABEL)
        return false;
    *label = (uint8_t)number;
    return board_read_any(from, value);
}

/* The next item, which must have that label. */
static bool next(items *from, uint8_t wanted, board_cursor *value)
{
    uint8_t label = BY_VALUE;

    if (!from->count)
        return false;
    from->count--;
    return (from->boxed ? read_box(&from->rest, &label, value) : board_read_any(&from->rest, value)) && label == wanted;
}

/* A number of ours; 0 where the reference is none. */
static uint16_t number_in(board_cursor from, const board_rpc *self)
{
    board_cursor ignored, tuple = from;
    size_t count;
    board_int number;

    if (board_read_tuple(&tuple, &count)) { /* (name, number of the class, number) */
        if (count != 3 || !board_read_any(&tuple, &ignored) || !board_read_any(&tuple, &ignored))
            return 0;
        from = tuple;
    } /* else the number alone: short-references */
    if (!board_read_int(&from, &number) || number < 0 || number > UINT16_MAX)
        return 0;
    return number == ROOT || number == DEVICE || member_of(self, (uint16_t)number) ? (uint16_t)number : 0;
}

static bool next_number(board_rpc *self, items *from, uint8_t label, uint16_t *number)
{
    board_cursor id;

    if (!next(from, label, &id))
        return fail(self, "Bthe target must be an object of this board");
    *number = number_in(id, self);
    return *number || fail(self, "Lno such object here");
}

static bool is_named(const char *name, size_t size, const char *known)
{
    return board_length(known) == size && !memcmp(name, known, size);
}

/* The member of an object that is named next: its number, 0 where there is none. The name is quoted. */
static bool next_member(board_rpc *self, items *from, uint16_t object, uint16_t *number)
{
    static const char exposed[] = "exposed_";
    board_cursor word;
    const char *name;
    size_t size;
    uint16_t count, first;
    const board_member *members = members_of(self, object, &count, &first);

    if (!next(from, BY_VALUE, &word) || !board_read_text(&word, &name, &size))
        return fail(self, "Ba name must be text, by value");
    quote(self, name, size);
    if (size > sizeof exposed - 1 && !memcmp(name, exposed, sizeof exposed - 1)) {
        name += sizeof exposed - 1;
        size -= sizeof exposed - 1;
    }
    *number = 0;
    for (uint16_t place = 0; place < count; place++)
        if (is_named(name, size, members[place].name))
            *number = (uint16_t)(first + place);
    if (object == ROOT && is_named(name, size, self->table->name))
        *number = DEVICE;
    if (member_of(self, object) && is_named(name, size, "__call__"))
        *number = object;
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
        return fail(self, "T%m: %a must be of type %t");
    if (wanted == the_device)
        return is_named(value->as.s, value->size, self->table->name) || fail(self, "Lno such device here; there is: %n");
    if (!wanted->bounded)
        return true;
    if (wanted->type == BOARD_INT)
        inside = value->as.i >= wanted->bounds.i.lowest && value->as.i <= wanted->bounds.i.highest;
    else
        inside = !board_is_nan(value->as.f) && !board_double_less(value->as.f, wanted->bounds.f.lowest) &&
                 !board_double_less(wanted->bounds.f.highest, value->as.f);
    return inside || fail(self, "V%m: %a must be from %r");
}

static bool read_value(board_rpc *self, board_cursor *from, board_value *value)
{
    return board_read_value(from, value) || fail(self, "B%m: arguments are bool, int, float, str or bytes, by value");
}

static void run(board_rpc *self, board_function function, const board_value *arguments)
{
    board_value *result = &self->answer.value;

    memset(result, 0, sizeof *result);
    self->answer.problem = function(arguments, result);
    if (self->answer.problem) {
        fail(self, "D%d");
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
    size_t count, two, size;
    const char *name;

    if (!from->count)
        return true;
    if (!next(from, BY_VALUE, &pairs) || !board_read_tuple(&pairs, &count))
        return fail(self, "Barguments go by value only");
    while (count--) {
        uint8_t place = 0;
        if (!board_read_tuple(&pairs, &two) || two != 2 || !board_read_text(&pairs, &name, &size))
            return fail(self, "Ba named argument is a name and a value");
        while (place < member->count && !is_named(name, size, member->arguments[place].name))
            place++;
        quote(self, name, size);
        if (place == member->count || *given >> place & 1)
            return fail(self, "T%m: '%q' is no argument, or given twice");
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
    if (!next(from, BY_VALUE, &given) || !board_read_tuple(&given, &count)) {
        fail(self, "Barguments go by value only");
        return;
    }
    if (count > member->count) {
        fail(self, "T%m: too many arguments");
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
            fail(self, "T%m: %a is missing");
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
    if (!next(from, BY_VALUE, &given)) {
        fail(self, "Barguments go by value only");
        return;
    }
    if (read_value(self, &given, &value) && fits(self, member->arguments, &value)) {
        run(self, member->set, &value);
        if (self->answer.kind != IS_ERROR)
            self->answer.kind = self->answer.value.type = BOARD_NONE;
    }
}

static void compare(board_rpc *self, uint16_t object, items *from)
{
    items before = *from;
    board_cursor other, word;
    const char *name;
    size_t size;
    bool same = next(from, OURS, &other) && number_in(other, self) == object;

    *from = before;
    from->count = 1;
    if (!from->boxed || !board_read_any(&from->rest, &other) || !next(from, BY_VALUE, &word) ||
        !board_read_text(&word, &name, &size)) {
        fail(self, "Ba comparison takes two objects and an operator");
        return;
    }
    quote(self, name, size);
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
    uint16_t object;

    if (handler == PING) {
        if (next(from, BY_VALUE, &self->answer.echo))
            self->answer.kind = IS_ECHO;
        else
            fail(self, "Bdata go by value only");
    } else if (handler == GETROOT) {
        answer_about(self, IS_REFERENCE, ROOT);
    } else if (handler == HELLO) {
        answer_about(self, IS_GREETING, ROOT);
    } else if (handler < GETATTR || handler > INSTANCECHECK) {
        fail(self, "Bthere is no such handler");
    } else if (next_number(self, from, handler == INSPECT ? BY_VALUE : OURS, &object)) {
        about(self, handler, object, from);
    }
}

bool board_rpc_serve(board_rpc *self, const uint8_t *message, size_t size)
{
    board_cursor from = {message, message + size};
    board_answer *answer = &self->answer;
    size_t count;
    board_int handler;
    uint8_t label;
    items arguments;

    memset(answer, 0, sizeof *answer);
    if (!size || *from.at++ != REQUEST || !board_read_tuple(&from, &count) || count != 2 ||
        !board_read_any(&from, &answer->seq))
        return false;
    if (!board_read_tuple(&from, &count) || count != 2 || !board_read_int(&from, &handler) ||
        !read_box(&from, &label, &arguments.rest) || from.at != from.end || label > AS_TUPLE ||
        !board_read_tuple(&arguments.rest, &arguments.count)) {
        fail(self, "Bthis is no request, or too long a one");
        return true;
    }
    arguments.boxed = label == AS_TUPLE;
    if (handler == CLOSE)
        return false;
    handle(self, handler, &arguments);
    return true;
}
