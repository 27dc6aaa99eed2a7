/* share.c - a replica's share of the partitions over a service's life. */
#include "common/share.h"
#include "common/log.h"

void share_take(struct service *s, struct partitions **p, struct partition_opts o, const char *without)
{
    o.service = s->desc->name;
    o.instance = s->instance;
    if (*p)
        partitions_refresh(*p);
    /* Only now: a first try without a store would cost its pause. */
    else if (!s->draining && !(*p = partitions_open(&s->loop, s->store, &o)))
        log_error(without);
}

void share_say(const struct partitions *p, struct share_said *said, struct metric *held, const char *event)
{
    struct share_said now = {.held = p ? partitions_held(p) : 0, .members = p ? partitions_members(p) : 0};
    metric_set(held, (int64_t)now.held);
    if (now.held == said->held && now.members == said->members)
        return;
    *said = now;
    log_info(event, F_INT("partitions", now.held), F_INT("of", PARTITIONS), F_INT("replicas", now.members));
}

static void on_given_back(void *ctx)
{
    service_drained(ctx);
}

void share_give_back(struct service *s, struct partitions **p)
{
    struct partitions *mine = *p;
    *p = NULL;
    if (mine)
        partitions_close(mine, on_given_back, s);
    else
        service_drained(s);
}
