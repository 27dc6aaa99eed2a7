/* audit_seen.c - which records are in the trail already. */
#include "audit/audit_seen.h"
#include <sodium.h>
#include <string.h>

void audit_seen_init(struct audit_seen *s)
{
    memset(s, 0, sizeof *s);
    randombytes_buf(s->key, sizeof s->key);
}

static uint64_t hash(const struct audit_seen *s, const char *id)
{
    unsigned char out[crypto_shorthash_BYTES];
    uint64_t h;
    crypto_shorthash(out, (const unsigned char *)id, strlen(id), s->key);
    memcpy(&h, out, sizeof h);
    return h ? h : 1;
}

/* The slot that holds h, or the free one where it would go. A table is at most half full. */
static size_t find(const uint64_t *slots, uint64_t h)
{
    size_t i = (size_t)(h % AUDIT_SEEN_SLOTS);
    while (slots[i] && slots[i] != h)
        i = (i + 1) % AUDIT_SEEN_SLOTS;
    return i;
}

bool audit_seen_has(const struct audit_seen *s, const char *id)
{
    uint64_t h = hash(s, id);
    return s->slots[0][find(s->slots[0], h)] == h || s->slots[1][find(s->slots[1], h)] == h;
}

bool audit_seen_add(struct audit_seen *s, const char *id)
{
    if (audit_seen_has(s, id))
        return true;
    if (s->n == AUDIT_SEEN_MIN) {
        s->young = !s->young;
        s->n = 0;
        memset(s->slots[s->young], 0, sizeof s->slots[0]);
    }
    uint64_t h = hash(s, id);
    s->slots[s->young][find(s->slots[s->young], h)] = h;
    s->n++;
    return false;
}
