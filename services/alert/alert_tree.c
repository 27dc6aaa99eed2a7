/* alert_tree.c - channels in groups in groups. */
#include "alert/alert_tree.h"

static enum alert_standing look_at_channel(const struct alert_node *n, const struct alert_marks *m, uint64_t *begin)
{
    uint64_t bit = UINT64_C(1) << n->way;
    if (m->absent & bit)
        return ALERT_STANDING_ABSENT;
    if (m->told & bit)
        return ALERT_STANDING_TOLD;
    if (m->put_by & bit)
        return ALERT_STANDING_PUT_BY;
    if (m->failed & bit)
        return ALERT_STANDING_FAILED;
    if (!(m->busy & bit))
        *begin |= bit;
    return ALERT_STANDING_OPEN;
}

/* Groups nest 8 deep at most: the settings see to it. */
static enum alert_standing look(const struct alert_tree *t, size_t at, const struct alert_marks *m, uint64_t *begin)
{
    const struct alert_node *n = &t->nodes[at];
    if (n->kind == ALERT_NODE_CHANNEL)
        return look_at_channel(n, m, begin);
    unsigned seen = 0;
    for (size_t c = at + 1; c < n->end; c = t->nodes[c].end) {
        enum alert_standing s = look(t, c, m, begin);
        seen |= 1u << s;
        if (n->kind == ALERT_NODE_FAILOVER && s != ALERT_STANDING_ABSENT && s != ALERT_STANDING_FAILED)
            return s;
    }
    static const enum alert_standing by_rank[] = {ALERT_STANDING_OPEN, ALERT_STANDING_TOLD, ALERT_STANDING_PUT_BY,
                                                  ALERT_STANDING_FAILED};
    for (size_t i = 0; i < sizeof by_rank / sizeof *by_rank; i++)
        if (seen & (1u << by_rank[i]))
            return by_rank[i];
    return ALERT_STANDING_ABSENT;
}

enum alert_standing alert_tree_look(const struct alert_tree *t, const struct alert_marks *m, uint64_t *ret_begin)
{
    *ret_begin = 0;
    return t->n == 0 ? ALERT_STANDING_ABSENT : look(t, 0, m, ret_begin);
}

static size_t owed(const struct alert_tree *t, size_t at, const struct alert_marks *m, uint16_t *out, size_t n_out)
{
    const struct alert_node *n = &t->nodes[at];
    uint64_t ignore = 0;
    enum alert_standing s = look(t, at, m, &ignore);
    if (s == ALERT_STANDING_FAILED) {
        out[n_out++] = (uint16_t)at;
        return n_out;
    }
    if (s == ALERT_STANDING_ABSENT || n->kind == ALERT_NODE_CHANNEL)
        return n_out;
    for (size_t c = at + 1; c < n->end; c = t->nodes[c].end) {
        enum alert_standing of_child = look(t, c, m, &ignore);
        if (n->kind == ALERT_NODE_FANOUT || of_child == ALERT_STANDING_TOLD || of_child == ALERT_STANDING_PUT_BY)
            n_out = owed(t, c, m, out, n_out);
        if (n->kind == ALERT_NODE_FAILOVER && (of_child == ALERT_STANDING_TOLD || of_child == ALERT_STANDING_PUT_BY))
            break; /* those before it have failed, those behind it were not needed */
    }
    return n_out;
}

size_t alert_tree_owed(const struct alert_tree *t, const struct alert_marks *m, uint16_t out[static ALERT_LEAVES_MAX])
{
    return t->n == 0 ? 0 : owed(t, 0, m, out, 0);
}
