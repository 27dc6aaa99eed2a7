/* health_phi.h - how suspicious a silence is, by the rhythm that was heard so far (phi-accrual; Hayashibara et al., 2004). Pure.
 *
 * phi = -log10(chance that the next sign of life comes even later than now): 1 is one false alarm in 10, 8 is one in 10^8. The
 * rhythm is taken as normally distributed; its deviation has a floor, because a rhythm heard to be exact to the millisecond is
 * luck, and the mean is never less than what is asked for, because who beats more often than asked promises nothing.
 *
 * Real pauses have a heavier tail than that. So the longest one is remembered beside the rhythm, and fades: what an agent has
 * shown before is not held against it. */
#ifndef REDOUBT_HEALTH_PHI_H
#define REDOUBT_HEALTH_PHI_H

#include <stdint.h>

#define HEALTH_PHI_WINDOW         128 /* intervals that are remembered */
#define HEALTH_PHI_FLOOR_PERMILLE 35  /* least deviation, of the interval that is asked for */
#define HEALTH_PHI_FLOOR_MS       4
#define HEALTH_PHI_FADING         1024 /* intervals until two thirds of what is longer than usual are forgotten */

struct health_phi {
    uint8_t n, at; /* a ring; at is where the next one goes */
    uint32_t asked_ms;
    uint64_t sum, squares;
    double longest_ms;
    uint32_t ms[HEALTH_PHI_WINDOW];
};

/* Nothing heard yet: the interval asked for, give or take a quarter, is the first estimate; it is forgotten as others come. */
void health_phi_start(struct health_phi *p, int64_t asked_ms);
void health_phi_add(struct health_phi *p, int64_t interval_ms);
double health_phi(const struct health_phi *p, int64_t silent_ms);
/* The least silence whose phi is at least that, and that is clearly longer than what was shown before. */
int64_t health_phi_silence_ms(const struct health_phi *p, double phi);

#endif
