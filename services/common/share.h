/* share.h - a replica's share of the partitions over a service's life: taken when the shared state is there, told in the log, given back at the end. */
#ifndef REDOUBT_SHARE_H
#define REDOUBT_SHARE_H

#include "common/metric.h"
#include "common/partition.h"
#include "common/service.h"

/* On on_store_up. *p is NULL before the first time. `o` needs neither service nor instance. `without` is the line of the log if memory is out: what
 * the replica does then. */
void share_take(struct service *s, struct partitions **p, struct partition_opts o, const char *without);

/* What the log knows; zero-initialise. */
struct share_said {
    size_t held, members;
};
/* One line for what is up to 32 at a time; `held` is set to how many it acts for. p may be NULL. */
void share_say(const struct partitions *p, struct share_said *said, struct metric *held, const char *event);

/* When nothing is in hand any more: at once, instead of after their time; then the service is drained. *p is NULL afterwards. */
void share_give_back(struct service *s, struct partitions **p);

#endif
