/* wire_report.c - reports of calls read straight from their bytes; see wire_report.h. */
#include "common/wire_report.h"
#include "common/subjects.h"
#include <string.h>

/* As in wire_rules.c and wire_rules.h; tests/fuzz/fuzz_report.c would find a difference. */
#define OUTCOME_MAX     8
#define STATUS_MAX      999
#define PERMIT_MAX      ((UINT64_C(1) << 53) - 1)
#define TIME_MAX        UINT64_C(253402300799999)
#define TAG(field, len) ((field) << 3 | ((len) ? 2 : 0))

struct cursor {
    const unsigned char *at, *end;
};

/* A number of 0 to max. */
static inline bool number(struct cursor *c, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 63 && c->at < c->end; shift += 7) {
        unsigned char b = *c->at++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *ret = v;
            return v <= max;
        }
    }
    return false;
}

/* The bytes of a field that has a length. */
static inline bool piece(struct cursor *c, struct cursor *ret)
{
    uint64_t len;
    if (!number(c, MESSAGE_MAX, &len) || len > (size_t)(c->end - c->at))
        return false;
    *ret = (struct cursor){c->at, c->at + len};
    c->at += len;
    return true;
}

static bool token_ok(const unsigned char *s, size_t len)
{
    if (len == 0 || len > NAME_MAX_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char b = s[i];
        if (!((b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || b == '_' || b == '-'))
            return false;
    }
    return true;
}

static bool read_one(struct cursor c, const char *target, size_t target_len, struct wire_reports *all)
{
    enum { NEEDED = 1 << 1 | 1 << 2 | 1 << 3 };
    unsigned seen = 0;
    struct wire_report r = {0};
    while (c.at < c.end) {
        unsigned tag = *c.at++, bit = 1u << (tag >> 3 & 15);
        uint64_t v = 0;
        struct cursor text;
        if (seen & bit)
            return false;
        seen |= bit;
        bool ok = false;
        switch (tag) {
        case TAG(1, true):
            ok = piece(&c, &text) && (size_t)(text.end - text.at) == target_len &&
                 memcmp(text.at, target, target_len) == 0;
            break;
        case TAG(2, true): {
            if (!piece(&c, &text))
                return false;
            size_t len = (size_t)(text.end - text.at);
            if (all->reporter) { /* known to be a name */
                ok = len == all->reporter_len && memcmp(text.at, all->reporter, len) == 0;
            } else {
                ok = token_ok(text.at, len);
                all->reporter = (const char *)text.at;
                all->reporter_len = len;
            }
            break;
        }
        case TAG(3, false):
            ok = number(&c, OUTCOME_MAX, &v) && v > 0;
            r.outcome = (uint8_t)v;
            break;
        case TAG(4, false):
            ok = number(&c, STATUS_MAX, &v);
            r.status_code = (uint32_t)v;
            break;
        case TAG(5, false):
            ok = number(&c, UINT32_MAX, &v);
            r.total_ms = (uint32_t)v;
            break;
        case TAG(6, false):
            ok = number(&c, UINT32_MAX, &v);
            r.first_token_ms = (uint32_t)v;
            break;
        case TAG(7, false):
            ok = number(&c, UINT32_MAX, &v);
            r.retry_after_ms = (uint32_t)v;
            break;
        case TAG(8, false):
            ok = number(&c, TIME_MAX, &v);
            r.ended_unix_ms = (int64_t)v;
            break;
        case TAG(9, false):
            ok = number(&c, PERMIT_MAX, &v);
            r.permit_id = v;
            break;
        case TAG(10, false):
            ok = number(&c, 1, &v);
            r.probe = v != 0;
            break;
        case TAG(11, false):
            ok = number(&c, 1, &v);
            r.data_path = v != 0;
            break;
        default:
            break;
        }
        if (!ok)
            return false;
    }
    if ((seen & NEEDED) != NEEDED)
        return false;
    all->at[all->n++] = r;
    return true;
}

size_t wire_reports_read(const void *data, size_t len, bool batch, const char *target, size_t target_len,
                         struct wire_reports *ret)
{
    struct cursor c = {data, (const unsigned char *)data + len}, one;
    ret->reporter = NULL;
    ret->n = 0;
    if (len == 0 || len > MESSAGE_MAX)
        return 0;
    if (!batch)
        return read_one(c, target, target_len, ret) ? 1 : 0;
    while (c.at < c.end)
        if (*c.at++ != TAG(1, true) || ret->n == WIRE_REPORTS_MAX || !piece(&c, &one) ||
            !read_one(one, target, target_len, ret))
            return 0;
    return ret->n;
}
