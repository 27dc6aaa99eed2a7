/* client_share.h - a share of all turns, spread evenly and not in runs: pure. */
#ifndef REDOUBT_CLIENT_SHARE_H
#define REDOUBT_CLIENT_SHARE_H

#include <stdbool.h>
#include <stdint.h>

/* Of any 100 turns in a row exactly `percent` are taken. Turns count up, from anywhere, also past their end. */
static inline bool client_share(uint32_t turn, unsigned percent)
{
    uint32_t at = turn % 100;
    return (at + 1) * percent / 100 > at * percent / 100;
}

/* Which of 10,000 parts of all keys a key belongs to: FNV-1a, with its bits well mixed. Part of the contract: proto/README.md. */
static inline uint32_t client_share_part(const char *key)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    return (uint32_t)(h % 10000);
}

#endif
