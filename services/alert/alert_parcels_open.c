/* alert_parcels_open.c - parcels that go out by the service's own runs. */
#include "alert/alert_parcels_priv.h"

struct alert_parcels *alert_parcels_open(struct alert_room *r)
{
    return alert_parcels_make(r, &(struct alert_parcels_ways){alert_run_start, alert_run_drop});
}
