/* rank.c - who of the members looks after a target: rendezvous hashing. */
#include "common/rank.h"
#include <stdbool.h>

/* The finaliser of splitmix64: every bit of the input moves every bit of the output. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t rank_hash(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a; names that differ in one byte are mixed apart */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return mix(h);
}

uint64_t rank_weight(uint64_t member, uint64_t target)
{
    return mix(member ^ mix(target + UINT64_C(0x9e3779b97f4a7c15)));
}

/* True if a comes before b. The same weight is all but impossible, but must not give one target two owners. */
static bool before(uint64_t a, uint64_t b, uint64_t target)
{
    uint64_t wa = rank_weight(a, target), wb = rank_weight(b, target);
    return wa != wb ? wa > wb : a < b;
}

uint32_t rank_place(const uint64_t *members, size_t n, uint64_t target, size_t i)
{
    uint32_t place = 0;
    for (size_t k = 0; k < n; k++)
        place += k != i && before(members[k], members[i], target);
    return place;
}

size_t rank_first(const uint64_t *members, size_t n, uint64_t target, size_t k, uint32_t *ret)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) { /* insertion: k is small */
        size_t at = found;
        while (at > 0 && before(members[i], members[ret[at - 1]], target))
            at--;
        if (at >= k)
            continue;
        if (found < k)
            found++;
        for (size_t m = found - 1; m > at; m--)
            ret[m] = ret[m - 1];
        ret[at] = (uint32_t)i;
    }
    return found;
}
