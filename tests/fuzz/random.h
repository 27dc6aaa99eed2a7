/* random.h - numbers for inputs that must be the same again: one word of state, no library's generator. */
#ifndef REDOUBT_FUZZ_RANDOM_H
#define REDOUBT_FUZZ_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_random {
    uint64_t state;
};

static inline uint64_t fuzz_next(struct fuzz_random *r) /* splitmix64 */
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 .. n-1 */
static inline size_t fuzz_below(struct fuzz_random *r, size_t n)
{
    return (size_t)(fuzz_next(r) % n);
}

/* A few bytes changed, cut out, doubled. Returns the new length. */
static inline size_t fuzz_mutate(struct fuzz_random *r, uint8_t *buf, size_t n, size_t room)
{
    for (size_t changes = fuzz_below(r, 4); n > 0 && changes > 0; changes--) {
        size_t at = fuzz_below(r, n), len = 1 + fuzz_below(r, n - at < 16 ? n - at : 16);
        switch (fuzz_below(r, 5)) {
        case 0:
            buf[at] = (uint8_t)fuzz_next(r);
            break;
        case 1:
            buf[at] ^= (uint8_t)(1u << fuzz_below(r, 8));
            break;
        case 2:
            n = at;
            break;
        case 3:
            for (size_t i = at; i + len < n; i++)
                buf[i] = buf[i + len];
            n -= len;
            break;
        default:
            if (n + len <= room) {
                for (size_t i = n; i-- > at;)
                    buf[i + len] = buf[i];
                n += len;
            }
        }
    }
    return n;
}

#endif
