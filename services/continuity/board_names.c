/* board_names.c - texts and names of the board: one copy of each, counted; and who belongs to an incident. */
#include "common/utf8.h"
#include "continuity/board_impl.h"
#include "continuity/objective.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts ---- */

static size_t cut(const char *s, size_t max)
{
    size_t n = strnlen(s, max + 1);
    if (n <= max)
        return utf8_valid_until(s, n);
    return utf8_valid_until(s, max);
}

const char *board_text(struct board *b, const char *s, size_t max)
{
    struct board_text *t = NULL;
    if (!s)
        return NULL;
    size_t n = cut(s, max);
    HASH_FIND(hh, b->texts, s, n, t);
    if (t) {
        t->refs++;
        return t->s;
    }
    t = calloc(1, sizeof *t + n + 1);
    if (!t)
        return NULL;
    memcpy(t->s, s, n);
    t->refs = 1;
    HASH_ADD_KEYPTR(hh, b->texts, t->s, n, t);
    return t->s;
}

void board_text_drop(void *board, const char *s)
{
    struct board *b = board;
    if (!s)
        return;
    struct board_text *t = (struct board_text *)(void *)((char *)(uintptr_t)s - offsetof(struct board_text, s));
    if (--t->refs > 0)
        return;
    HASH_DELETE(hh, b->texts, t);
    free(t);
}

/* ---- subjects ---- */

struct board_subject *board_subject(struct board *b, const char *name)
{
    struct board_subject *s = NULL;
    HASH_FIND_STR(b->subjects, name, s);
    return s;
}

static bool index_room(struct board *b)
{
    if (b->n_unused > 0 || b->n_index < b->index_room)
        return true;
    uint32_t room = b->index_room ? b->index_room * 2 : 64;
    struct board_subject **of = realloc(b->of_index, room * sizeof *of);
    if (!of)
        return false;
    b->of_index = of;
    uint32_t *unused = realloc(b->unused, room * sizeof *unused);
    if (!unused)
        return false;
    b->unused = unused;
    b->index_room = room;
    if (b->n_index == 0)
        b->of_index[b->n_index++] = NULL;
    return true;
}

struct board_subject *board_subject_make(struct board *b, const char *name)
{
    struct board_subject *s = board_subject(b, name);
    if (s)
        return s;
    size_t n = strlen(name);
    s = index_room(b) ? calloc(1, sizeof *s + n + 1) : NULL;
    if (!s)
        return NULL;
    memcpy(s->name, name, n);
    s->own = -2;
    s->index = b->n_unused > 0 ? b->unused[--b->n_unused] : b->n_index++;
    b->of_index[s->index] = s;
    HASH_ADD_KEYPTR(hh, b->subjects, s->name, n, s);
    return s;
}

void board_subject_hold(struct board_subject *s)
{
    s->refs++;
}

void board_subject_drop(struct board *b, struct board_subject *s)
{
    if (s->refs > 0 && --s->refs > 0)
        return;
    b->of_index[s->index] = NULL;
    b->unused[b->n_unused++] = s->index;
    HASH_DELETE(hh, b->subjects, s);
    free(s);
}

const int64_t *board_limits(struct board *b, struct board_subject *s)
{
    if (!s)
        return b->limits[0];
    if (s->own == -2)
        s->own = objective_own(b->set, s->name);
    return b->limits[s->own + 1];
}

const char *board_agent_name(const struct board *b, uint32_t index)
{
    return index > 0 && index < b->n_index && b->of_index[index] ? b->of_index[index]->name : "";
}

/* ---- members: a list in order of joining, with an open hash table over it ---- */

static uint32_t slot_of(uint32_t agent, uint32_t n_slots)
{
    return (agent * 2654435761u) & (n_slots - 1);
}

static void slot_put(struct board_entry *e, uint32_t i)
{
    uint32_t at = slot_of(e->members[i].agent, e->n_slots);
    while (e->slots[at])
        at = (at + 1) & (e->n_slots - 1);
    e->slots[at] = i + 1;
}

static struct board_member *member_find(const struct board_entry *e, uint32_t agent)
{
    if (e->n_slots == 0) {
        for (uint32_t i = 0; i < e->n_members; i++)
            if (e->members[i].agent == agent)
                return &e->members[i];
        return NULL;
    }
    for (uint32_t at = slot_of(agent, e->n_slots); e->slots[at]; at = (at + 1) & (e->n_slots - 1))
        if (e->members[e->slots[at] - 1].agent == agent)
            return &e->members[e->slots[at] - 1];
    return NULL;
}

static bool member_room(struct board_entry *e)
{
    if (e->n_members < e->members_room)
        return true;
    uint32_t room = e->members_room ? e->members_room * 2 : 2;
    uint32_t *slots = room >= 16 ? calloc(room * 2, sizeof *slots) : NULL;
    struct board_member *m = room >= 16 && !slots ? NULL : realloc(e->members, room * sizeof *m);
    if (!m) {
        free(slots);
        return false;
    }
    e->members = m;
    e->members_room = room;
    if (!slots)
        return true;
    free(e->slots);
    e->slots = slots;
    e->n_slots = room * 2;
    for (uint32_t i = 0; i < e->n_members; i++)
        slot_put(e, i);
    return true;
}

bool board_member(struct board_entry *e, struct board_subject *s, unsigned clocks)
{
    struct board_member *m = member_find(e, s->index);
    if (m) {
        m->clocks |= clocks;
        return false;
    }
    if (!member_room(e))
        return false;
    e->members[e->n_members++] = (struct board_member){.agent = s->index, .clocks = clocks};
    if (e->n_slots > 0)
        slot_put(e, e->n_members - 1);
    board_subject_hold(s);
    return true;
}

void board_members_drop(struct board *b, struct board_entry *e)
{
    for (uint32_t i = 0; i < e->n_members; i++)
        board_subject_drop(b, b->of_index[e->members[i].agent]);
    free(e->members);
    free(e->slots);
    e->members = NULL;
    e->slots = NULL;
    e->n_members = e->members_room = e->n_slots = 0;
}

size_t board_agents(const struct board *b, const struct incident *x, const char **names, size_t max)
{
    const struct board_entry *e = (const struct board_entry *)(const void *)x;
    size_t n = e->n_members < max ? e->n_members : max;
    for (size_t i = 0; i < n; i++)
        names[i] = board_agent_name(b, e->members[i].agent);
    return n;
}
