/* fuzz_wire.c - wire_unpack() of every message: what it accepts is valid, packs again, and becomes JSON. */
#include "common/subjects.h"
#include "common/wire.h"
#include "common/wire_rules.h"
#include "random.h"
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t accepted, tried;

/* First byte: which message. The rest: its bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const ProtobufCMessageDescriptor *desc = wire_rules[data[0] % wire_rules_n].desc;
    struct err e = {""};
    tried++;
    void *m = wire_unpack(desc, data + 1, size - 1, &e);
    if (!m) {
        assert(e.text[0]);
        return 0;
    }
    accepted++;
    assert(wire_check(m, &e) == 0);
    char *json = wire_json(m);
    assert(json);
    free(json);
    size_t len;
    void *packed = wire_pack(m, &len, &e);
    assert(packed || strstr(e.text, "packs to"));
    if (packed) {
        void *again = wire_unpack(desc, packed, len, &e);
        assert(again);
        size_t len2;
        void *packed2 = wire_pack(again, &len2, &e);
        assert(packed2 && len2 == len && memcmp(packed, packed2, len) == 0);
        free(packed2);
        wire_free(again);
    }
    free(packed);
    wire_free(m);
    return 0;
}

/* ---- inputs: messages along the descriptor, mostly by the rules, then damaged ---- */

struct out {
    uint8_t *at, *end;
};

static void put_byte(struct out *o, unsigned b)
{
    if (o->at < o->end)
        *o->at++ = (uint8_t)b;
}

static void put_varint(struct out *o, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put_byte(o, (unsigned)(v & 0x7f) | 0x80);
    put_byte(o, (unsigned)v);
}

static void put_text(struct fuzz_random *r, struct out *o, const struct wire_rule *rule)
{
    static const char letters[] = "abcxyz0189_-";
    uint8_t s[512];
    size_t max = rule ? (size_t)rule->max : WIRE_DEFAULT_TEXT_MAX, n = fuzz_below(r, (max < 40 ? max : 40) + 2);
    if (fuzz_below(r, 50) == 0)
        n = max < sizeof s - 1 ? max + fuzz_below(r, 2) : sizeof s;
    for (size_t i = 0; i < n; i++)
        s[i] = (uint8_t)letters[fuzz_below(r, sizeof letters - 1)];
    if (n > 4 && fuzz_below(r, 8) == 0)
        s[2] = '.';
    if (n > 4 && fuzz_below(r, 20) == 0)
        memcpy(s + 1, "\xc3\xa9", 2);
    if (n > 4 && fuzz_below(r, 40) == 0)
        s[fuzz_below(r, n)] = (uint8_t)fuzz_next(r);
    put_varint(o, n);
    for (size_t i = 0; i < n; i++)
        put_byte(o, s[i]);
}

static uint64_t make_number(struct fuzz_random *r, const ProtobufCFieldDescriptor *f, const struct wire_rule *rule)
{
    static const uint64_t odd[] = {
        0, 1, 2, 100, 101, 0x7f, 0x80, 999, 1000, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_C(1) << 53};
    if (f->type == PROTOBUF_C_TYPE_ENUM)
        return fuzz_below(r, ((const ProtobufCEnumDescriptor *)f->descriptor)->n_values + (fuzz_below(r, 30) == 0));
    if (f->type == PROTOBUF_C_TYPE_BOOL)
        return fuzz_below(r, 2);
    if (fuzz_below(r, 20) == 0)
        return odd[fuzz_below(r, sizeof odd / sizeof odd[0])];
    if (rule && rule->max > rule->min)
        return (uint64_t)rule->min + fuzz_next(r) % (uint64_t)(rule->max - rule->min);
    return fuzz_next(r) % 100000;
}

static const struct wire_rules *rules_of(const ProtobufCMessageDescriptor *desc)
{
    for (size_t i = 0; i < wire_rules_n; i++)
        if (wire_rules[i].desc == desc)
            return &wire_rules[i];
    return NULL;
}

static void put_message(struct fuzz_random *r, struct out *o, const ProtobufCMessageDescriptor *desc)
{
    const struct wire_rules *rules = rules_of(desc);
    for (unsigned i = 0; i < desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &desc->fields[i];
        const struct wire_rule *rule = NULL;
        for (size_t k = 0; rules && k < rules->n; k++)
            if (rules->rows[k].tag == f->id)
                rule = &rules->rows[k];
        bool needed =
            rule && (rule->min > 0 || rule->kind == WIRE_SET || rule->kind == WIRE_PRESENT || rule->count_min > 0);
        bool list = f->label == PROTOBUF_C_LABEL_REPEATED;
        size_t times = list ? fuzz_below(r, 4) + (needed ? 1 : 0) : needed ? fuzz_below(r, 60) > 0 : fuzz_below(r, 2);
        if (!list && fuzz_below(r, 200) == 0)
            times++;
        for (; times > 0; times--) {
            bool lengthy = f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES ||
                           f->type == PROTOBUF_C_TYPE_MESSAGE;
            put_varint(o, (uint64_t)f->id << 3 | (lengthy ? 2 : 0));
            if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
                uint8_t inner[2048];
                struct out in = {inner, inner + sizeof inner};
                put_message(r, &in, f->descriptor);
                put_varint(o, (uint64_t)(in.at - inner));
                for (const uint8_t *p = inner; p < in.at; p++)
                    put_byte(o, *p);
            } else if (lengthy) {
                put_text(r, o, f->type == PROTOBUF_C_TYPE_STRING ? rule : NULL);
            } else {
                put_varint(o, make_number(r, f, rule));
            }
        }
    }
    if (fuzz_below(r, 20) == 0) { /* a field of a newer sender */
        put_varint(o, (uint64_t)(500 + fuzz_below(r, 1000)) << 3);
        put_varint(o, fuzz_next(r));
    }
}

static size_t fuzz_make(struct fuzz_random *r, uint8_t *buf, size_t room)
{
    uint8_t which = (uint8_t)fuzz_below(r, wire_rules_n);
    size_t n = 1;
    buf[0] = which;
    if (fuzz_below(r, 20) == 0) {
        for (size_t len = fuzz_below(r, 300); n <= len; n++)
            buf[n] = (uint8_t)fuzz_next(r);
        return n;
    }
    struct out o = {buf + 1, buf + room};
    put_message(r, &o, wire_rules[which].desc);
    n = (size_t)(o.at - buf);
    return fuzz_below(r, 3) == 0 ? 1 + fuzz_mutate(r, buf + 1, n - 1, room - 1) : n;
}

static void fuzz_report(void)
{
    printf("%llu of %llu messages were valid\n", (unsigned long long)accepted, (unsigned long long)tried);
    assert(tried < 1000 || accepted > tried / 10); /* else the generator no longer knows the contract */
}

#include "driver.h"
