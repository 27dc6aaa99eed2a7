/* alert_road.c - what a name of the settings stands for, ready for use: its channels and their tree, made once until the settings change. */
#include "alert/alert_room.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX (64 * (ALERT_PARCEL_TOKEN_MAX + 1))

static struct alert_way way_of(const struct alert_channel *c)
{
    return (struct alert_way){.proto = c->kind->proto,
                              .record = c->kind->proto == ALERT_PROTO_FILE,
                              .tries = (int)c->set.tries,
                              .attempt_ms = c->set.attempt_ms,
                              .deadline_ms = c->set.deadline_ms,
                              .deadline_critical_ms = c->set.deadline_critical_ms};
}

void alert_road_unref(struct alert_road *x)
{
    if (!x || --x->refs > 0)
        return;
    for (size_t i = 0; i < x->plan.n; i++)
        alert_channel_unref(x->ways[i]);
    for (size_t i = 0; x->names && i < x->plan.tree.n; i++)
        free(x->names[i]);
    free(x->names);
    free(x->key);
    free(x);
}

static bool add_way(struct alert_room *r, struct alert_road *x, const char *name)
{
    struct alert_channel *c = alert_room_channel(r, name);
    if (!c || x->plan.n == ALERT_WAYS_MAX)
        return false;
    alert_channel_ref(c);
    x->plan.ways[x->plan.n] = way_of(c);
    x->ways[x->plan.n++] = c;
    return true;
}

static bool from_layout(struct alert_room *r, struct alert_road *x, const struct alert_layout *l)
{
    for (size_t i = 0; i < l->n_ways; i++)
        if (!add_way(r, x, l->ways[i])) /* a channel that could not be made: memory was out at the reload */
            return false;
    x->names = calloc(l->tree.n, sizeof *x->names);
    for (size_t i = 0; x->names && i < l->tree.n; i++) {
        x->names[i] = strdup(l->names[i]);
        x->plan.tree.n = i + 1;
        if (!x->names[i])
            return false;
    }
    x->plan.tree = l->tree;
    return x->names != NULL;
}

static struct alert_road *found(const struct alert_room *r, const char *key)
{
    struct alert_road *x;
    HASH_FIND_STR(r->roads, key, x);
    if (x)
        x->refs++;
    return x;
}

static struct alert_road *fresh(const char *key)
{
    struct alert_road *x = calloc(1, sizeof *x);
    if (x && !(x->key = strdup(key))) {
        free(x);
        x = NULL;
    }
    if (x)
        x->refs = 1;
    return x;
}

static struct alert_road *keep(struct alert_room *r, struct alert_road *x)
{
    HASH_ADD_KEYPTR(hh, r->roads, x->key, strlen(x->key), x);
    x->refs++;
    return x;
}

struct alert_road *alert_road_of(struct alert_room *r, const char *const *nodes, size_t n)
{
    char key[KEY_MAX] = "";
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(key + at, sizeof key - at, "%s%.*s", i ? "," : "", ALERT_PARCEL_TOKEN_MAX, nodes[i]);
    struct alert_road *x = found(r, key);
    if (x)
        return x;
    struct alert_layout *l = malloc(sizeof *l);
    bool ok = l && alert_layout_of(&r->service->settings->alert, nodes, n, l) && (x = fresh(key)) != NULL &&
              from_layout(r, x, l);
    free(l);
    if (!ok) {
        alert_road_unref(x);
        return NULL;
    }
    return keep(r, x);
}

/* Nodes may have more channels together than a road has room for, but never more files than there are channels at all. */
struct alert_road *alert_road_files(struct alert_room *r, uint64_t routes)
{
    char key[32];
    snprintf(key, sizeof key, "files/%016llx", (unsigned long long)routes);
    struct alert_road *x = found(r, key);
    if (x)
        return x;
    struct alert_layout *l = malloc(sizeof *l);
    x = l ? fresh(key) : NULL;
    const struct conf_list *set = &r->service->settings->alert.routes;
    for (size_t i = 0; x && i < set->n; i++) {
        char buf[ALERT_PARCEL_TOKEN_MAX + 1];
        const char *node = alert_route_node(CONF_AT(*set, struct set_route, i), buf);
        if (!(routes & (UINT64_C(1) << i)) || !alert_layout_of(&r->service->settings->alert, &node, 1, l))
            continue;
        for (size_t w = 0; w < l->n_ways; w++) {
            struct alert_channel *c = alert_room_channel(r, l->ways[w]);
            bool there = !c || c->kind->proto != ALERT_PROTO_FILE;
            for (size_t k = 0; k < x->plan.n && !there; k++)
                there = x->ways[k] == c;
            if (!there)
                (void)add_way(r, x, l->ways[w]);
        }
    }
    free(l);
    return x ? keep(r, x) : NULL;
}

void alert_roads_forget(struct alert_room *r)
{
    struct alert_road *x, *next;
    HASH_ITER(hh, r->roads, x, next)
    {
        HASH_DEL(r->roads, x);
        alert_road_unref(x);
    }
}
