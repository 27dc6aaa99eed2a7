/* sim_ledger.c - what the simulated backend was asked to do, per agent.
 *
 * Keys are kept as fingerprints of 64 bits, in two generations: when the younger is full, the older is forgotten. Order is read from keys
 * that end in a number: below one head (all before the number) it must grow. */
#include "cli/sim_ledger.h"
#include "common/subjects.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define SLOTS       (1u << 21) /* per generation, half of them used at most */
#define AGENTS_MAX  100000
#define REMARKS_MAX 1000
#define HEADS       4 /* per agent: processes of it that act at the same time */

struct generation {
    uint64_t *slots; /* 0 = free */
    uint32_t n;
};
struct head {
    uint64_t print, last, used; /* fingerprint, last number, when */
};
enum { EXECUTED, REPEATED, OUT_OF_ORDER, OLDER_EPOCH, FENCED, COUNTS };
static const char *const names[COUNTS] = {"executed", "repeated", "out_of_order", "older_epoch", "fenced"};

struct ledger_agent {
    char name[NAME_MAX_LEN + 1];
    uint64_t counts[COUNTS];
    uint64_t last_epoch, highest_epoch, fence;
    int64_t first_ms, last_ms;
    struct head heads[HEADS];
    UT_hash_handle hh;
};
struct sim_ledger {
    struct generation young, old;
    struct ledger_agent *agents;
    uint64_t counts[COUNTS], turn;
    json_t *remarks;
};

struct sim_ledger *sim_ledger_open(void)
{
    struct sim_ledger *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    *l = (struct sim_ledger){.young.slots = calloc(SLOTS, sizeof(uint64_t)), .remarks = json_array()};
    if (l->young.slots && l->remarks)
        return l;
    sim_ledger_close(l);
    return NULL;
}

void sim_ledger_close(struct sim_ledger *l)
{
    if (!l)
        return;
    struct ledger_agent *a, *next;
    HASH_ITER(hh, l->agents, a, next)
    {
        HASH_DEL(l->agents, a);
        free(a);
    }
    free(l->young.slots);
    free(l->old.slots);
    json_decref(l->remarks);
    free(l);
}

static uint64_t fingerprint(const char *text, size_t len)
{
    static const unsigned char key[crypto_shorthash_KEYBYTES] = {0}; /* against nobody: for spreading */
    union {
        unsigned char bytes[crypto_shorthash_BYTES];
        uint64_t number;
    } out;
    crypto_shorthash(out.bytes, (const unsigned char *)text, len, key);
    return out.number ? out.number : 1;
}

static bool holds(const struct generation *g, uint64_t print)
{
    if (!g->slots)
        return false;
    for (uint32_t i = (uint32_t)print & (SLOTS - 1); g->slots[i]; i = (i + 1) & (SLOTS - 1))
        if (g->slots[i] == print)
            return true;
    return false;
}

static void enter(struct sim_ledger *l, uint64_t print)
{
    if (l->young.n >= SLOTS / 2) {
        uint64_t *slots = calloc(SLOTS, sizeof *slots);
        if (slots) {
            free(l->old.slots);
            l->old = l->young;
            l->young = (struct generation){.slots = slots};
        } else { /* begin anew in place: older keys are forgotten sooner */
            memset(l->young.slots, 0, SLOTS * sizeof *slots);
            l->young.n = 0;
        }
    }
    uint32_t i = (uint32_t)print & (SLOTS - 1);
    while (l->young.slots[i])
        i = (i + 1) & (SLOTS - 1);
    l->young.slots[i] = print;
    l->young.n++;
}

static struct ledger_agent *agent(struct sim_ledger *l, const char *name)
{
    struct ledger_agent *a;
    if (strlen(name) > NAME_MAX_LEN)
        name = "";
    HASH_FIND_STR(l->agents, name, a);
    if (!a && HASH_COUNT(l->agents) >= AGENTS_MAX) {
        name = "";
        HASH_FIND_STR(l->agents, name, a);
    }
    if (a || !(a = calloc(1, sizeof *a)))
        return a;
    snprintf(a->name, sizeof a->name, "%s", name);
    HASH_ADD_STR(l->agents, name, a);
    return a;
}

static void count(struct sim_ledger *l, struct ledger_agent *a, int what, const char *key, uint64_t epoch,
                  int64_t now_ms)
{
    l->counts[what]++;
    a->counts[what]++;
    if (what == EXECUTED)
        return;
    json_array_append_new(l->remarks,
                          json_pack("{s:s, s:s, s:s, s:I, s:I}", "what", names[what], "agent", a->name, "key", key,
                                    "epoch", (json_int_t)epoch, "at_unix_ms", (json_int_t)now_ms));
    if (json_array_size(l->remarks) > REMARKS_MAX)
        json_array_remove(l->remarks, 0);
}

/* False if it comes after one with a greater number below the same head. */
static bool in_order(struct sim_ledger *l, struct ledger_agent *a, const char *key)
{
    size_t len = strlen(key), digits = len;
    while (digits > 0 && key[digits - 1] >= '0' && key[digits - 1] <= '9')
        digits--;
    if (digits == len || len - digits > 18)
        return true; /* says nothing of an order */
    uint64_t number = strtoull(key + digits, NULL, 10), print = fingerprint(key, digits);
    struct head *h = &a->heads[0];
    for (int i = 0; i < HEADS; i++) {
        if (a->heads[i].print == print) {
            h = &a->heads[i];
            break;
        }
        if (a->heads[i].used < h->used)
            h = &a->heads[i];
    }
    bool ok = h->print != print || number > h->last;
    if (h->print != print || number > h->last)
        h->last = number;
    h->print = print;
    h->used = ++l->turn;
    return ok;
}

bool sim_ledger_take(struct sim_ledger *l, const char *name, const char *key, uint64_t epoch, int64_t now_ms)
{
    struct ledger_agent *a = agent(l, name);
    uint64_t print = fingerprint(key, strlen(key));
    bool again = holds(&l->young, print) || holds(&l->old, print);
    if (!again)
        enter(l, print);
    if (!a)
        return !again;
    if (a->fence && epoch <= a->fence)
        count(l, a, FENCED, key, epoch, now_ms);
    if (again) {
        count(l, a, REPEATED, key, epoch, now_ms);
        return false;
    }
    count(l, a, EXECUTED, key, epoch, now_ms);
    if (!in_order(l, a, key))
        count(l, a, OUT_OF_ORDER, key, epoch, now_ms);
    if (epoch < a->highest_epoch)
        count(l, a, OLDER_EPOCH, key, epoch, now_ms);
    a->last_epoch = epoch;
    if (epoch > a->highest_epoch)
        a->highest_epoch = epoch;
    if (a->first_ms == 0)
        a->first_ms = now_ms;
    a->last_ms = now_ms;
    return true;
}

bool sim_ledger_fence(struct sim_ledger *l, const char *name, uint64_t epoch)
{
    struct ledger_agent *a = agent(l, name);
    if (a && epoch > a->fence)
        a->fence = epoch;
    return a != NULL;
}

static void put_counts(json_t *j, const uint64_t *counts)
{
    for (int i = 0; i < COUNTS; i++)
        json_object_set_new(j, names[i], json_integer((json_int_t)counts[i]));
}

json_t *sim_ledger_json(const struct sim_ledger *l)
{
    json_t *j = json_object(), *by_agent = json_object();
    put_counts(j, l->counts);
    for (const struct ledger_agent *a = l->agents; a; a = a->hh.next) {
        json_t *one = json_pack("{s:I, s:I, s:I, s:I, s:I}", "last_epoch", (json_int_t)a->last_epoch, "highest_epoch",
                                (json_int_t)a->highest_epoch, "fence", (json_int_t)a->fence, "first_unix_ms",
                                (json_int_t)a->first_ms, "last_unix_ms", (json_int_t)a->last_ms);
        put_counts(one, a->counts);
        json_object_set_new(by_agent, a->name, one);
    }
    json_object_set_new(j, "by_agent", by_agent);
    json_object_set(j, "remarks", l->remarks);
    return j;
}
