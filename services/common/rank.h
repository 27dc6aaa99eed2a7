/* rank.h - who of the members looks after a target: rendezvous hashing (highest random weight). Pure.
 *
 * Every member computes the same ranking of all members for a target from their names alone. When a member comes or goes, only
 * the targets that it gets or had move: each of the others keeps its order. */
#ifndef REDOUBT_RANK_H
#define REDOUBT_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANK_MAX      64         /* members */
#define RANK_UNPLACED UINT32_MAX /* not among the ranked */

uint64_t rank_hash(const char *name);
/* How much a member wants a target; both are given as their names' hashes. */
uint64_t rank_weight(uint64_t member, uint64_t target);
/* Place of members[i] in the ranking for the target: 0 = the first. */
uint32_t rank_place(const uint64_t *members, size_t n, uint64_t target, size_t i);
/* Indexes of the first k of the ranking, in order; returns how many there are. */
size_t rank_first(const uint64_t *members, size_t n, uint64_t target, size_t k, uint32_t *ret);

#endif
