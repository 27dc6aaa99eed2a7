/* fuzz_report.c - the quick reader of reports against wire_unpack(): it takes nothing else, the same values, and whatever is plain. */
#include "common/subjects.h"
#include "common/wire.h"
#include "common/wire_report.h"
#include "random.h"
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGET "llm.openai.gpt-4o"

static uint64_t tried, valid, quick;

static void same(const PB(OutcomeReport) * a, const struct wire_reports *all, size_t i)
{
    const struct wire_report *b = &all->at[i];
    assert(strcmp(a->target, TARGET) == 0);
    assert(strlen(a->reporter) == all->reporter_len && memcmp(a->reporter, all->reporter, all->reporter_len) == 0);
    assert((int)a->outcome == b->outcome && a->status_code == b->status_code && a->total_ms == b->total_ms);
    assert(a->first_token_ms == b->first_token_ms && a->retry_after_ms == b->retry_after_ms);
    assert(a->ended_unix_ms == b->ended_unix_ms && a->permit_id == b->permit_id);
    assert((a->probe != 0) == b->probe && (a->data_path != 0) == b->data_path);
}

/* First byte: even = one report, odd = a batch. The rest: its bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_reports r;
    if (size == 0)
        return 0;
    bool batch = data[0] & 1;
    struct err e = {""};
    size_t n = wire_reports_read(data + 1, size - 1, batch, TARGET, sizeof TARGET - 1, &r);
    void *m = wire_unpack(batch ? PB_DESC(outcome_batch) : PB_DESC(outcome_report), data + 1, size - 1, &e);
    tried++;
    valid += m != NULL;
    quick += n > 0;
    assert(n == 0 || m); /* nothing that the contract refuses */
    if (m && n > 0) {
        PB(OutcomeReport) *single = m;
        PB(OutcomeReport) **list = batch ? ((PB(OutcomeBatch) *)m)->reports : &single;
        assert(n == (batch ? ((PB(OutcomeBatch) *)m)->n_reports : 1));
        for (size_t i = 0; i < n; i++)
            same(list[i], &r, i);
    }
    if (m) { /* and all that a sender of our own would write */
        size_t len;
        PB(OutcomeReport) *single = m;
        PB(OutcomeReport) **list = batch ? ((PB(OutcomeBatch) *)m)->reports : &single;
        size_t want = batch ? ((PB(OutcomeBatch) *)m)->n_reports : 1;
        void *packed = wire_pack(m, &len, &e);
        bool plain = packed && ((ProtobufCMessage *)m)->n_unknown_fields == 0;
        for (size_t i = 0; i < want; i++)
            plain = plain && list[i]->base.n_unknown_fields == 0 && strcmp(list[i]->target, TARGET) == 0 &&
                    strcmp(list[i]->reporter, list[0]->reporter) == 0;
        size_t got =
            packed ? wire_reports_read(packed, len, batch, TARGET, sizeof TARGET - 1, &r) : 0; /* whole in memory */
        assert(got == (plain ? want : 0));
        for (size_t i = 0; i < got; i++)
            same(list[i], &r, i);
        free(packed);
    }
    wire_free(m);
    return 0;
}

/* ---- inputs ---- */

struct out {
    uint8_t *at, *end;
};

static void put_byte(struct out *o, unsigned b)
{
    if (o->at < o->end)
        *o->at++ = (uint8_t)b;
}

static void put_varint(struct fuzz_random *r, struct out *o, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put_byte(o, (unsigned)(v & 0x7f) | 0x80);
    if (fuzz_below(r, 100) > 0) {
        put_byte(o, (unsigned)v);
    } else { /* longer than needed: allowed, and read by few */
        put_byte(o, (unsigned)v | 0x80);
        put_byte(o, 0);
    }
}

static void put_text(struct fuzz_random *r, struct out *o, uint32_t field, const char *text)
{
    size_t n = strlen(text);
    put_varint(r, o, field << 3 | 2);
    put_varint(r, o, n);
    for (size_t i = 0; i < n; i++)
        put_byte(o, (uint8_t)text[i]);
}

static void put_report(struct fuzz_random *r, struct out *o)
{
    static const char *const targets[] = {TARGET, TARGET, TARGET, TARGET, TARGET, TARGET, TARGET, "llm.other", ""};
    static const char *const reporters[] = {"gateway-1", "gateway-1", "gateway-1", "gateway-1",
                                            "gateway-1", "gateway-1", "gateway-1", "gateway-2",
                                            "Not_OK",    "",          "a.b"};
    static const uint64_t odd[] = {0,
                                   1,
                                   2,
                                   8,
                                   9,
                                   999,
                                   1000,
                                   UINT32_MAX,
                                   INT64_MAX,
                                   UINT64_MAX,
                                   0x7f,
                                   0x80,
                                   1u << 31u,
                                   1ull << 53,
                                   1ull << 32,
                                   253402300799999,
                                   253402300800000};
    static const uint64_t most[] = {0, 0, 0, 8, 999, 100000, 100000, 100000, 2000000000000, 100, 1, 1};
    bool shuffled = fuzz_below(r, 10) == 0;
    for (uint32_t i = 1; i <= 11; i++) {
        uint32_t field = shuffled ? 1 + (i * 7) % 11 : i; /* any order is allowed */
        bool needed = field <= 3;
        if (needed ? fuzz_below(r, 200) == 0 : fuzz_below(r, 2) == 0)
            continue;
        for (size_t times = fuzz_below(r, 300) == 0 ? 2 : 1; times > 0; times--) {
            if (field == 1) {
                put_text(r, o, 1, targets[fuzz_below(r, sizeof targets / sizeof targets[0])]);
            } else if (field == 2) {
                put_text(r, o, 2, reporters[fuzz_below(r, sizeof reporters / sizeof reporters[0])]);
            } else {
                put_varint(r, o, field << 3);
                put_varint(r, o,
                           fuzz_below(r, 60) == 0 ? odd[fuzz_below(r, sizeof odd / sizeof odd[0])]
                           : field == 3           ? 1 + fuzz_below(r, 8)
                                                  : fuzz_below(r, most[field] + 1));
            }
        }
    }
    if (fuzz_below(r, 60) == 0) { /* a field of a newer sender */
        put_varint(r, o, (uint64_t)(12 + fuzz_below(r, 1000)) << 3);
        put_varint(r, o, fuzz_next(r));
    }
}

static size_t fuzz_make(struct fuzz_random *r, uint8_t *buf, size_t room)
{
    size_t n = 1;
    buf[0] = (uint8_t)fuzz_below(r, 2);
    if (fuzz_below(r, 20) == 0) {
        for (size_t len = fuzz_below(r, 100); n <= len; n++)
            buf[n] = (uint8_t)fuzz_next(r);
        return n;
    }
    struct out o = {buf + 1, buf + room};
    if (!buf[0]) {
        put_report(r, &o);
    } else {
        size_t reports = fuzz_below(r, 200) == 0 ? 998 + fuzz_below(r, 4) : fuzz_below(r, 8);
        for (size_t i = 0; i < reports; i++) {
            uint8_t inner[512];
            struct out in = {inner, inner + sizeof inner};
            put_report(r, &in);
            if (reports > 100)
                in.at = inner + (in.at > inner + 60 ? 60 : in.at - inner);
            put_varint(r, &o, 1 << 3 | 2);
            put_varint(r, &o, (uint64_t)(in.at - inner));
            for (const uint8_t *p = inner; p < in.at; p++)
                put_byte(&o, *p);
        }
    }
    n = (size_t)(o.at - buf);
    return fuzz_below(r, 4) == 0 ? 1 + fuzz_mutate(r, buf + 1, n - 1, room - 1) : n;
}

static void fuzz_report(void)
{
    printf("%llu of %llu messages were valid, %llu read quickly\n", (unsigned long long)valid,
           (unsigned long long)tried, (unsigned long long)quick);
    assert(tried < 1000 || (quick > tried / 5 && valid > quick));
}

#include "driver.h"
