/* guard_memory.c - what this replica itself did lately: a ring of marks, found by hash. */
#include "guard/guard_memory.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX
#define LOOK 64 /* places that are tried for a new mark */

struct guard_memory {
    unsigned char key[crypto_shorthash_siphashx24_KEYBYTES]; /* nobody can choose keys that collide */
    size_t n, next;
    uint32_t *buckets; /* as many as marks */
    struct guard_mark marks[];
};

struct guard_memory *guard_memory_new(size_t marks)
{
    struct guard_memory *m = calloc(1, sizeof *m + marks * sizeof m->marks[0]);
    if (!m || !(m->buckets = malloc(marks * sizeof *m->buckets))) {
        free(m);
        return NULL;
    }
    m->n = marks;
    memset(m->buckets, 0xff, marks * sizeof *m->buckets);
    randombytes_buf(m->key, sizeof m->key);
    return m;
}

void guard_memory_free(struct guard_memory *m)
{
    if (m)
        free(m->buckets);
    free(m);
}

void guard_memory_id(const struct guard_memory *m, const char *agent, const char *key,
                     unsigned char id[static GUARD_MEMORY_ID])
{
    unsigned char text[256]; /* a name and a key are at most 64 and 128 bytes */
    size_t a = strnlen(agent, 100), k = strnlen(key, 150);
    memcpy(text, agent, a);
    text[a] = 0;
    memcpy(text + a + 1, key, k);
    crypto_shorthash_siphashx24(id, text, a + 1 + k, m->key);
}

uint64_t guard_memory_hash(const struct guard_memory *m, const void *data, size_t len)
{
    uint64_t h;
    crypto_shorthash((unsigned char *)&h, data, len, m->key);
    return h;
}

static uint32_t *bucket(struct guard_memory *m, const unsigned char *id)
{
    uint64_t h;
    memcpy(&h, id, sizeof h);
    return &m->buckets[h % m->n];
}

void guard_memory_drop(struct guard_memory *m, struct guard_mark *x)
{
    if (!x->used)
        return;
    uint32_t at = (uint32_t)(x - m->marks), *link = bucket(m, x->id);
    while (*link != at)
        link = &m->marks[*link].next;
    *link = x->next;
    x->used = false;
}

struct guard_mark *guard_memory_find(struct guard_memory *m, const unsigned char id[static GUARD_MEMORY_ID],
                                     int64_t now_ms, int64_t ttl_ms)
{
    for (uint32_t at = *bucket(m, id); at != NONE; at = m->marks[at].next)
        if (memcmp(m->marks[at].id, id, GUARD_MEMORY_ID) == 0)
            return now_ms - m->marks[at].at_ms < ttl_ms ? &m->marks[at] : NULL;
    return NULL;
}

struct guard_mark *guard_memory_add(struct guard_memory *m, const unsigned char id[static GUARD_MEMORY_ID],
                                    int64_t now_ms, int64_t ttl_ms)
{
    struct guard_mark *x = NULL;
    for (size_t i = 0; i < LOOK && i < m->n && !x; i++) {
        struct guard_mark *y = &m->marks[m->next];
        m->next = (m->next + 1) % m->n;
        if (!y->used || now_ms - y->at_ms >= ttl_ms || (!y->ours_alone && y->state != GUARD_MARK_PROGRESS))
            x = y;
    }
    if (!x)
        return NULL;
    guard_memory_drop(m, x);
    uint32_t *first = bucket(m, id);
    *x = (struct guard_mark){.at_ms = now_ms, .used = true, .next = *first};
    memcpy(x->id, id, GUARD_MEMORY_ID);
    *first = (uint32_t)(x - m->marks);
    return x;
}
