/* drill_ledger.c - what became of each action: asked for, accepted or refused, and whether the backend has it once. */
#include "cli/drill_ledger.h"
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define PBE(x) REDOUBT__V1__##x

struct drill_action {
    char *key;
    bool asked, accepted, refused;
    uint64_t epoch;  /* under which it was asked for last */
    unsigned queued; /* its place among those that waited, from 1; 0 = it did not wait */
    UT_hash_handle hh;
};

static struct drill_action *action_of(struct drill_ledger *l, const char *key)
{
    struct drill_action *a = NULL;
    HASH_FIND_STR(l->actions, key, a);
    if (!a) {
        a = calloc(1, sizeof *a);
        if (!a || !(a->key = strdup(key)))
            abort();
        HASH_ADD_KEYPTR(hh, l->actions, a->key, strlen(a->key), a);
    }
    return a;
}

static void note_reply(struct drill_ledger *l, const PB(ActionReply) * r)
{
    struct drill_action *a = action_of(l, r->idempotency_key);
    switch (r->decision) {
    case PBE(ACTION_DECISION__ACTION_DECISION_FORWARDED):
    case PBE(ACTION_DECISION__ACTION_DECISION_QUEUED):
    case PBE(ACTION_DECISION__ACTION_DECISION_DUPLICATE):
        a->accepted = true;
        break;
    case PBE(ACTION_DECISION__ACTION_DECISION_REFUSED):
        a->refused = true;
        break;
    default: /* a permit, or an outcome that nobody may count on */
        break;
    }
}

void drill_ledger_note(struct drill_ledger *l, const void *message)
{
    const ProtobufCMessageDescriptor *desc = ((const ProtobufCMessage *)message)->descriptor;
    if (desc == PB_DESC(action_request)) {
        const PB(ActionRequest) *r = message;
        struct drill_action *a = action_of(l, r->idempotency_key);
        a->asked = true;
        a->epoch = r->epoch;
    } else if (desc == PB_DESC(action_reply)) {
        const PB(ActionReply) *r = message;
        if (*r->idempotency_key)
            note_reply(l, r);
    } else if (desc == PB_DESC(queued_action)) {
        const PB(QueuedAction) *q = message;
        struct drill_action *a = q->request ? action_of(l, q->request->idempotency_key) : NULL;
        if (a && a->queued == 0) /* one that is put back keeps its place */
            a->queued = ++l->queued;
    }
}

/* The guard tells the backend `<agent>/<key>`, as two agents may use one key; a drill has one agent. */
static const char *own_key(const char *key)
{
    const char *slash = key ? strchr(key, '/') : NULL;
    return slash ? slash + 1 : key;
}

uint64_t drill_ledger_epoch(const struct drill_ledger *l, const char *key)
{
    struct drill_action *a = NULL;
    const char *own = own_key(key);
    HASH_FIND_STR(l->actions, own, a);
    return a ? a->epoch : 0;
}

void drill_ledger_count(const struct drill_ledger *l, const json_t *backend, struct drill_count *ret)
{
    const json_t *done = json_object_get(backend, "actions"), *keys = json_object_get(backend, "keys");
    json_t *times = json_object(), *a;
    unsigned last = 0;
    size_t i;
    *ret = (struct drill_count){0};
    json_array_foreach((json_t *)done, i, a)
    {
        const char *key = own_key(json_string_value(json_object_get(a, "key")));
        if (!key)
            continue;
        json_int_t n = json_integer_value(json_object_get(times, key));
        json_object_set_new(times, key, json_integer(n + 1));
        ret->executed += n == 0;
        ret->doubled += n == 1;
        struct drill_action *known = NULL;
        HASH_FIND_STR(l->actions, key, known);
        if (!known || known->queued == 0 || n > 0)
            continue;
        ret->out_of_order += known->queued < last;
        last = known->queued > last ? known->queued : last;
    }
    const char *name;
    json_object_foreach((json_t *)keys, name, a)
    {
        if (strncmp(name, "action/", 7) == 0)
            ret->repeated += (unsigned)json_integer_value(a);
    }
    for (const struct drill_action *k = l->actions; k; k = k->hh.next) {
        ret->asked += k->asked;
        ret->accepted += k->accepted;
        ret->queued += k->queued > 0;
        ret->refused += k->refused && !k->accepted;
        ret->lost += k->accepted && !json_object_get(times, k->key);
    }
    json_decref(times);
}

void drill_ledger_free(struct drill_ledger *l)
{
    struct drill_action *a, *next;
    HASH_ITER(hh, l->actions, a, next)
    {
        HASH_DEL(l->actions, a);
        free(a->key);
        free(a);
    }
    *l = (struct drill_ledger){0};
}
