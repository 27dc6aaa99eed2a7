/* kube_share.h - shares of traffic as numbers of pods, and as weights. Pure. */
#ifndef REDOUBT_ROLLBACK_KUBE_SHARE_H
#define REDOUBT_ROLLBACK_KUBE_SHARE_H

#include <stdbool.h>

/* How many of the ready pods of each side get traffic, so that side 0 has `percent` as nearly as it can be. No side gets less than its share needs of
 * pods (of the larger side's number), no side with a share is left without one, and among equals more pods are better. False: a side that is to
 * have traffic has no ready pod. */
bool kube_share_plan(int percent, unsigned ready_0, unsigned ready_1, unsigned *ret_0, unsigned *ret_1);
/* Percent of side 0; the other has the rest. -1 = neither has any. */
int kube_share_percent(long long side_0, long long side_1);

#endif
