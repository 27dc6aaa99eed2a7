/* health_phi.c - how suspicious a silence is, by the rhythm that was heard so far. */
#include "health/health_phi.h"
#include <math.h>

#define LONGEST_MS (INT64_C(24) * 3600 * 1000) /* keeps the sums of squares within 64 bits */
#define SIGMAS_MAX 40.0                        /* beyond, the chance is below the least double */
#define STEPS      48                          /* of halving: exact to far below a millisecond */

static uint32_t clamp(int64_t ms)
{
    return (uint32_t)(ms < 0 ? 0 : ms > LONGEST_MS ? LONGEST_MS : ms);
}

static void enter(struct health_phi *p, uint32_t ms)
{
    if (p->n == HEALTH_PHI_WINDOW) {
        uint64_t old = p->ms[p->at];
        p->sum -= old;
        p->squares -= old * old;
    } else {
        p->n++;
    }
    p->ms[p->at] = ms;
    p->at = (uint8_t)((p->at + 1) % HEALTH_PHI_WINDOW);
    p->sum += ms;
    p->squares += (uint64_t)ms * ms;
}

void health_phi_start(struct health_phi *p, int64_t asked_ms)
{
    *p = (struct health_phi){.asked_ms = clamp(asked_ms)};
    enter(p, p->asked_ms - p->asked_ms / 4);
    enter(p, p->asked_ms + p->asked_ms / 4);
}

void health_phi_add(struct health_phi *p, int64_t interval_ms)
{
    uint32_t ms = clamp(interval_ms);
    double mean = (double)p->sum / p->n;
    enter(p, ms);
    p->longest_ms -= (p->longest_ms - mean) / HEALTH_PHI_FADING;
    if (ms > p->longest_ms)
        p->longest_ms = ms;
}

static double least_deviation(const struct health_phi *p)
{
    double floor = p->asked_ms * HEALTH_PHI_FLOOR_PERMILLE / 1000.0;
    return floor > HEALTH_PHI_FLOOR_MS ? floor : HEALTH_PHI_FLOOR_MS;
}

static void rhythm(const struct health_phi *p, double *ret_mean, double *ret_deviation)
{
    double mean = (double)p->sum / p->n, variance = (double)p->squares / p->n - mean * mean;
    double deviation = variance > 0 ? sqrt(variance) : 0, floor = least_deviation(p);
    *ret_mean = mean > p->asked_ms ? mean : p->asked_ms;
    *ret_deviation = deviation > floor ? deviation : floor;
}

static double phi_of(double sigmas)
{
    return sigmas >= SIGMAS_MAX ? HUGE_VAL : -log10(0.5 * erfc(sigmas / sqrt(2.0)));
}

double health_phi(const struct health_phi *p, int64_t silent_ms)
{
    double mean, deviation;
    rhythm(p, &mean, &deviation);
    return phi_of(((double)silent_ms - mean) / deviation);
}

int64_t health_phi_silence_ms(const struct health_phi *p, double phi)
{
    double mean, deviation, low = -SIGMAS_MAX, high = SIGMAS_MAX;
    rhythm(p, &mean, &deviation);
    for (int i = 0; i < STEPS; i++) {
        double mid = (low + high) / 2;
        if (phi_of(mid) < phi)
            low = mid;
        else
            high = mid;
    }
    double ms = ceil(mean + high * deviation - 1e-6), shown = ceil(p->longest_ms + least_deviation(p));
    ms = ms > shown ? ms : shown;
    return ms > 0 ? (int64_t)ms : 0;
}
