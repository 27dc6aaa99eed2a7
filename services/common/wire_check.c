/* wire_check.c - one walk over a message's descriptor that checks every field by its row, or by the defaults. */
#include "common/subjects.h"
#include "common/utf8.h"
#include "common/wire.h"
#include "common/wire_rules.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Where the walk is, innermost first; turned into text only when something is wrong. */
struct place {
    const struct place *outer;
    const char *name;
    size_t index; /* SIZE_MAX = not in a list */
};

static size_t put_place(const struct place *p, char *buf, size_t room)
{
    size_t n = p->outer ? put_place(p->outer, buf, room) : 0;
    int more = p->index == SIZE_MAX ? snprintf(buf + n, room - n, "%s%s", p->outer ? "." : "", p->name)
                                    : snprintf(buf + n, room - n, ".%s[%zu]", p->name, p->index);
    n += more > 0 ? (size_t)more : 0;
    return n < room ? n : room - 1;
}

__attribute__((format(printf, 3, 4))) static int wrong(struct err *e, const struct place *p, const char *fmt, ...)
{
    char where[192], what[256];
    put_place(p, where, sizeof where);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(e, "%s: %s", where, what);
}

/* A short, printable piece of a string for an error text. */
struct excerpt {
    char text[52];
};
static struct excerpt excerpt(const char *s)
{
    struct excerpt x;
    size_t i = 0;
    for (; i < 48 && s[i]; i++)
        x.text[i] = s[i] >= ' ' && s[i] <= '~' ? s[i] : '?';
    memcpy(x.text + i, s[i] ? "..." : "", s[i] ? 4 : 1);
    return x;
}

static const struct wire_rules *rules_of(const ProtobufCMessageDescriptor *desc)
{
    for (size_t i = 0; i < wire_rules_n; i++)
        if (wire_rules[i].desc == desc)
            return &wire_rules[i];
    return NULL;
}

static const struct wire_rule *rule_of(const struct wire_rules *r, uint32_t tag)
{
    for (size_t i = 0; r && i < r->n && r->rows[i].tag <= tag; i++)
        if (r->rows[i].tag == tag)
            return &r->rows[i];
    return NULL;
}

static bool only(const char *s, bool upper, bool dot)
{
    for (; *s; s++) {
        bool ok = (*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_' || *s == '-' ||
                  (upper && *s >= 'A' && *s <= 'Z') || (dot && *s == '.');
        if (!ok)
            return false;
    }
    return true;
}

static int check_string(const char *s, const struct wire_rule *r, const struct place *p, struct err *e)
{
    size_t min = r ? (size_t)r->min : 0, max = r ? (size_t)r->max : WIRE_DEFAULT_TEXT_MAX;
    if (!s)
        s = "";
    size_t len = strnlen(s, max + 1);
    if (len > max)
        return wrong(e, p, "more than %zu bytes", max);
    if (len < min)
        return wrong(e, p, "is empty; required, up to %zu bytes", max);
    size_t good = utf8_valid_until(s, len);
    if (good != len)
        return wrong(e, p, "byte %zu is not UTF-8", good);
    if (!r || len == 0)
        return 0;
    switch (r->kind) {
    case WIRE_TOKEN:
        return name_token_ok(s) ? 0 : wrong(e, p, "found `%s`; allowed: [a-z0-9_-]", excerpt(s).text);
    case WIRE_TARGET:
        return name_target_ok(s)
                   ? 0
                   : wrong(e, p, "found `%s`; allowed: names of [a-z0-9_-], up to %d bytes each, joined by dots",
                           excerpt(s).text, NAME_MAX_LEN);
    case WIRE_ID:
        return only(s, true, false) ? 0 : wrong(e, p, "found `%s`; allowed: [A-Za-z0-9_-]", excerpt(s).text);
    case WIRE_KEY:
        return only(s, false, true) ? 0 : wrong(e, p, "found `%s`; allowed: [a-z0-9_.-]", excerpt(s).text);
    default:
        return 0;
    }
}

static int check_signed(int64_t v, int64_t min, int64_t max, const struct place *p, struct err *e)
{
    if (v >= min && v <= max)
        return 0;
    return wrong(e, p, "found %" PRId64 "; allowed: %" PRId64 " to %" PRId64, v, min, max);
}

static int check_unsigned(uint64_t v, const struct wire_rule *r, const struct place *p, struct err *e)
{
    if (!r || (v <= INT64_MAX && (int64_t)v >= r->min && (int64_t)v <= r->max))
        return 0;
    return wrong(e, p, "found %" PRIu64 "; allowed: %" PRId64 " to %" PRId64, v, r->min, r->max);
}

static int check_message(const ProtobufCMessage *m, const struct wire_rules *rules, const struct place *p,
                         struct err *e);

/* One value; at is where it is stored. `sub` are the rules of a sub-message's type. */
static int check_value(const void *at, const ProtobufCFieldDescriptor *f, const struct wire_rule *r,
                       const struct wire_rules *sub, const struct place *p, struct err *e)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        return check_string(*(char *const *)at, r, p, e);
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = at;
        size_t min = r ? (size_t)r->min : 0, max = r ? (size_t)r->max : WIRE_DEFAULT_BYTES_MAX;
        if (b->len > 0 && !b->data)
            return wrong(e, p, "has a length but no data");
        if (b->len < min || b->len > max)
            return wrong(e, p, "found %zu bytes; allowed: %zu to %zu", b->len, min, max);
        return 0;
    }
    case PROTOBUF_C_TYPE_ENUM: {
        int v = *(const int *)at;
        if (!protobuf_c_enum_descriptor_get_value(f->descriptor, v))
            return wrong(e, p, "found %d, which %s does not know", v,
                         ((const ProtobufCEnumDescriptor *)f->descriptor)->short_name);
        return v == 0 && r && r->kind == WIRE_SET ? wrong(e, p, "is not set; required") : 0;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *m = *(ProtobufCMessage *const *)at;
        if (!m)
            return r && r->kind == WIRE_PRESENT ? wrong(e, p, "is missing; required") : 0;
        if (m->descriptor != f->descriptor)
            return wrong(e, p, "is a message of another type");
        return check_message(m, sub, p, e);
    }
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return check_signed(*(const int64_t *)at, r ? r->min : 0, r ? r->max : WIRE_DEFAULT_INT64_MAX, p, e);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return r ? check_signed(*(const int32_t *)at, r->min, r->max, p, e) : 0;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return check_unsigned(*(const uint64_t *)at, r, p, e);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return check_unsigned(*(const uint32_t *)at, r, p, e);
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_FLOAT: /* the contract has none */
    case PROTOBUF_C_TYPE_DOUBLE:
        return 0;
    }
    return wrong(e, p, "is of a type that this program does not know");
}

size_t wire_item_size(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

/* The contract says of Label that a key may occur once. Lists are short (64 at most), so pairs will do. */
static int check_labels(PB(Label) *const *l, size_t n, const struct place *p, struct err *e)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(l[i]->key, l[k]->key) == 0)
                return wrong(e, p, "key `%s` occurs twice", excerpt(l[i]->key).text);
    return 0;
}

static int check_list(const char *base, const ProtobufCFieldDescriptor *f, const struct wire_rule *r,
                      const struct place *p, struct err *e)
{
    size_t n = *(const size_t *)(base + f->quantifier_offset);
    const char *items = *(const char *const *)(base + f->offset);
    size_t min = r ? r->count_min : 0, max = r && r->count_max ? r->count_max : WIRE_DEFAULT_COUNT_MAX;
    if (n < min || n > max)
        return wrong(e, p, "found %zu items; allowed: %zu to %zu", n, min, max);
    if (n > 0 && !items)
        return wrong(e, p, "has a count but no items");
    const struct wire_rules *sub = f->type == PROTOBUF_C_TYPE_MESSAGE ? rules_of(f->descriptor) : NULL;
    for (size_t i = 0; i < n; i++) {
        struct place item = {p->outer, p->name, i};
        const void *at = items + i * wire_item_size(f->type);
        if (f->type == PROTOBUF_C_TYPE_MESSAGE && !*(void *const *)at)
            return wrong(e, &item, "is missing");
        if (check_value(at, f, r, sub, &item, e))
            return -1;
    }
    return f->descriptor == PB_DESC(label) ? check_labels((PB(Label) *const *)(const void *)items, n, p, e) : 0;
}

static int check_message(const ProtobufCMessage *m, const struct wire_rules *rules, const struct place *p,
                         struct err *e)
{
    const char *base = (const char *)m;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const struct wire_rule *r = rule_of(rules, f->id);
        struct place here = {p, f->name, SIZE_MAX};
        int bad;
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            bad = check_list(base, f, r, &here, e);
        else if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                 *(const uint32_t *)(base + f->quantifier_offset) != f->id)
            bad = 0;
        else
            bad = check_value(base + f->offset, f, r,
                              f->type == PROTOBUF_C_TYPE_MESSAGE ? rules_of(f->descriptor) : NULL, &here, e);
        if (bad)
            return -1;
    }
    return 0;
}

int wire_check(const void *message, struct err *e)
{
    const ProtobufCMessage *m = message;
    struct place top = {NULL, m->descriptor->short_name, SIZE_MAX};
    return check_message(m, rules_of(m->descriptor), &top, e);
}
