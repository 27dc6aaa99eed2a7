/* audit_scan.c - one segment by itself, and what at its end a crash explains. */
#include "audit/audit_scan.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECTOR 512

__attribute__((format(printf, 4, 5))) static void problem(struct audit_scan *s, uint64_t offset, uint64_t seq,
                                                          const char *fmt, ...)
{
    struct audit_problem *p = &s->problem;
    snprintf(p->file, sizeof p->file, "%s", s->name);
    p->offset = offset;
    p->seq = seq;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->what, sizeof p->what, fmt, ap);
    va_end(ap);
    s->bad = true;
}

static bool zeros(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* A disk writes whole sectors. Of a write that a crash cut short some are new and others as they were: behind the former end, zeros. So a
 * broken record is a crash's doing only if all that it has of some sector is zeros; and only within the last write. */
static bool crash_did_it(const struct audit_scan *s, size_t at)
{
    const unsigned char *p = s->data;
    size_t left = s->len - at;
    if (left > AUDIT_BATCH_BYTES + AUDIT_STORED_MAX + AUDIT_RECORD_EXTRA)
        return false;
    size_t n = AUDIT_RECORD_EXTRA;
    if (left >= 4) {
        size_t claimed = (size_t)p[at] | (size_t)p[at + 1] << 8 | (size_t)p[at + 2] << 16 | (size_t)p[at + 3] << 24;
        n += claimed < AUDIT_STORED_MAX ? claimed : AUDIT_STORED_MAX;
    }
    size_t end = at + (n < left ? n : left);
    for (size_t from = at; from < end;) {
        size_t to = from / SECTOR * SECTOR + SECTOR;
        if (to > s->len)
            to = s->len;
        if (zeros(p + from, to - from))
            return true;
        from = to;
    }
    return false;
}

static bool follows(const unsigned char *p, size_t left, uint64_t seq)
{
    uint64_t is = 0;
    for (int i = 0; left >= AUDIT_RECORD_HEAD && i < 8; i++)
        is |= (uint64_t)p[4 + i] << (8 * i);
    return left == 0 || is == seq;
}

/* The bytes end within a record as long as this one says it is; but with another length it is whole. No crash does that. */
static bool length_was_changed(const struct audit_scan *s, size_t at)
{
    const unsigned char *p = s->data + at;
    size_t left = s->len - at;
    for (size_t n = 0; n <= AUDIT_STORED_MAX && AUDIT_RECORD_EXTRA + n <= left; n++) {
        const unsigned char *end = p + AUDIT_RECORD_EXTRA + n;
        unsigned char hash[AUDIT_HASH_BYTES];
        if (!follows(end, left - AUDIT_RECORD_EXTRA - n, s->next_seq + 1))
            continue;
        audit_record_hash(s->hash, s->next_seq, p + AUDIT_RECORD_HEAD, (uint32_t)n, hash);
        if (memcmp(hash, end - AUDIT_HASH_BYTES, sizeof hash) == 0)
            return true;
    }
    return false;
}

/* What the notes say of this place is compared later; here it is seen. */
static size_t see_marks(struct audit_scan *s, size_t i, uint64_t seq)
{
    for (; i < s->n_marks && s->marks[i].c.size <= seq; i++) {
        struct audit_mark *m = &s->marks[i];
        if (m->c.size != seq)
            continue;
        m->seen = true;
        memcpy(m->hash, s->hash, sizeof m->hash);
        m->part = s->tree;
    }
    return i;
}

static void scan_records(struct audit_scan *s)
{
    size_t mark = 0;
    for (size_t at = AUDIT_HEADER_BYTES;;) {
        struct audit_record rec;
        struct err e = {""};
        enum audit_found found = audit_record_parse(s->data + at, s->len - at, s->hash, s->next_seq, &rec, &e);
        if (found == AUDIT_END)
            return;
        if (found != AUDIT_RECORD) {
            /* Only at the very end of the trail, and never within what a note covers. */
            bool may = s->last && s->covered < s->next_seq;
            if (may && found == AUDIT_TORN && length_was_changed(s, at))
                problem(s, at, s->next_seq, "record %" PRIu64 " was changed: its length is another", s->next_seq);
            else if (may && (found == AUDIT_TORN || crash_did_it(s, at)))
                s->torn_bytes = s->len - at;
            else if (found == AUDIT_TORN)
                problem(s, at, s->next_seq, "the file ends within record %" PRIu64 ": %zu bytes are left",
                        s->next_seq, s->len - at);
            else
                problem(s, at, s->next_seq, "%s", e.text);
            return;
        }
        memcpy(s->hash, rec.hash, AUDIT_HASH_BYTES);
        s->records++;
        s->next_seq = rec.seq + 1;
        if (s->trees && rec.seq > s->tree_from) {
            unsigned char leaf[AUDIT_ROOT_BYTES];
            audit_merkle_leaf(rec.stored, rec.len, leaf);
            audit_merkle_append(&s->tree, leaf);
        }
        if (mark < s->n_marks)
            mark = see_marks(s, mark, rec.seq);
        if (s->visit)
            s->visit(s->ctx, &rec, s->name, at);
        at += rec.size;
    }
}

void audit_scan(struct audit_scan *s)
{
    struct err e;
    /* A crash while the segment was begun: its first sector is not there, or not written. */
    size_t head = s->len < AUDIT_HEADER_BYTES ? s->len : AUDIT_HEADER_BYTES;
    if (s->last && s->covered < s->number && s->len <= AUDIT_BATCH_BYTES + AUDIT_STORED_MAX &&
        (s->len < AUDIT_HEADER_BYTES || zeros(s->data, head))) {
        s->headless = true;
        s->torn_bytes = s->len;
        return;
    }
    if (s->len == 0)
        problem(s, 0, s->number, "the segment is empty");
    else if (audit_header_parse(s->data, s->len, &s->header, &e))
        problem(s, 0, s->number, "%s", e.text);
    else if (s->header.first_seq != s->number)
        problem(s, 32, s->number, "the segment of record %" PRIu64 " has the name of another", s->header.first_seq);
    if (s->bad)
        return;
    s->headed = true;
    s->next_seq = s->number;
    audit_header_hash(s->data, s->hash);
    audit_merkle_begin(&s->tree, s->tree_from > s->number - 1 ? s->tree_from : s->number - 1);
    scan_records(s);
}
