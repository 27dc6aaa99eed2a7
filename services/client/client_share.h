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

#endif
