/* kube_share.c - shares of traffic as numbers of pods: a search over all numbers, which are few. Pure. */
#include "rollback/kube_share.h"
#include <stdlib.h>

static unsigned least(unsigned most, int percent, unsigned ready)
{
    unsigned n = (most * (unsigned)percent + 99) / 100;
    return n < ready ? n : ready;
}

bool kube_share_plan(int percent, unsigned ready_0, unsigned ready_1, unsigned *ret_0, unsigned *ret_1)
{
    unsigned most = ready_0 > ready_1 ? ready_0 : ready_1;
    if ((percent > 0 && ready_0 == 0) || (percent < 100 && ready_1 == 0))
        return false;
    *ret_0 = percent > 0 ? ready_0 : 0;
    *ret_1 = percent < 100 ? ready_1 : 0;
    if (percent <= 0 || percent >= 100)
        return true;
    /* How far from the share, in parts that do not round: |k0 * 100 - percent * (k0 + k1)| / (k0 + k1). */
    long best = -1, best_of = 1;
    for (unsigned a = ready_0; a >= 1 && a >= least(most, percent, ready_0); a--)
        for (unsigned b = ready_1; b >= 1 && b >= least(most, 100 - percent, ready_1); b--) {
            long off = labs((long)a * 100 - (long)percent * (long)(a + b)), of = (long)(a + b);
            bool nearer = best < 0 || off * best_of < best * of;
            if (nearer || (off * best_of == best * of && a + b > *ret_0 + *ret_1)) {
                best = off;
                best_of = of;
                *ret_0 = a;
                *ret_1 = b;
            }
        }
    return true;
}

int kube_share_percent(long long side_0, long long side_1)
{
    long long all = side_0 + side_1;
    if (all <= 0)
        return -1;
    int percent = (int)((side_0 * 200 + all) / (2 * all));
    /* What is little is not nothing, and what is nearly all is not all. */
    if (side_0 > 0 && percent == 0)
        return 1;
    return side_1 > 0 && percent == 100 ? 99 : percent;
}
