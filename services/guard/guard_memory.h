/* guard_memory.h - what this replica itself did lately, by idempotency key: bounded, and all that is known while Redis is away. */
#ifndef REDOUBT_GUARD_MEMORY_H
#define REDOUBT_GUARD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUARD_MEMORY_ID 16

enum guard_mark_state {
    GUARD_MARK_PROGRESS, /* under way here */
    GUARD_MARK_QUEUED,
    GUARD_MARK_PERMITTED, /* to one instance of the agent */
    GUARD_MARK_DONE,
};
struct guard_mark {
    unsigned char id[GUARD_MEMORY_ID];
    uint64_t print;    /* of action and parameters */
    uint64_t instance; /* PERMITTED: whose */
    int64_t at_ms;     /* monotonic */
    unsigned char state;
    bool ours_alone; /* Redis does not know it */
    bool used;
    int16_t status; /* DONE: HTTP */
    uint32_t next;  /* in its bucket */
};
struct guard_memory;
/* NULL if memory is out. */
struct guard_memory *guard_memory_new(size_t marks);
void guard_memory_free(struct guard_memory *m);
void guard_memory_id(const struct guard_memory *m, const char *agent, const char *key,
                     unsigned char id[static GUARD_MEMORY_ID]);
uint64_t guard_memory_hash(const struct guard_memory *m, const void *data, size_t len);
/* NULL = not known, or older than ttl_ms. */
struct guard_mark *guard_memory_find(struct guard_memory *m, const unsigned char id[static GUARD_MEMORY_ID],
                                     int64_t now_ms, int64_t ttl_ms);
/* In the place of the oldest that may go: one that Redis knows, or older than ttl_ms. NULL = none may: nothing may be forgotten. */
struct guard_mark *guard_memory_add(struct guard_memory *m, const unsigned char id[static GUARD_MEMORY_ID],
                                    int64_t now_ms, int64_t ttl_ms);
void guard_memory_drop(struct guard_memory *m, struct guard_mark *x);

#endif
