/* traffic_httproute.c - traffic between two Deployments. */
#include "rollback/rollback_traffic.h"

static struct traffic *open_httproute(struct service *s, const struct set_deployment *set, struct err *e)
{
    (void)s;
    err_set(e, "%s: traffic httproute is not there yet", set->name);
    return NULL;
}

const struct traffic_kind traffic_httproute = {.name = "httproute", .open = open_httproute};
