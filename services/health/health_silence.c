/* health_silence.c - three pulses missing is silence; one good pulse ends it. */
#include "health/health_silence.h"

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void health_silence_heard(struct health_silence *x, int64_t pulse_unix_ms, int64_t every_ms, bool ok, int64_t now_ms,
                          int64_t now_unix_ms)
{
    if (!ok || pulse_unix_ms <= x->pulse_unix_ms) /* told again from the stream: no news */
        return;
    bool first = x->pulse_unix_ms == 0;
    x->pulse_unix_ms = pulse_unix_ms;
    x->every_ms = every_ms;
    /* The first may be one that was left on the stream long ago. Of those after it the sender's clock does not matter. */
    if (!first || now_unix_ms - pulse_unix_ms < HEALTH_SILENCE_PULSES * every_ms)
        x->heard_ms = now_ms;
}

enum health_silence_news health_silence_tick(struct health_silence *x, bool listens, bool speaks, int64_t every_ms,
                                             int64_t now_ms)
{
    if (!listens) {
        if (!x->silent) /* a full grace when we can hear again */
            x->heard_ms = now_ms;
        return HEALTH_SILENCE_NONE;
    }
    if (x->heard_ms == 0)
        x->heard_ms = now_ms;
    bool silent = now_ms - x->heard_ms >= HEALTH_SILENCE_PULSES * most(every_ms, x->every_ms);
    bool changed = silent != x->silent;
    x->silent = silent;
    if (silent && speaks &&
        !x->said) { /* also when whoever was to say it died first: twice is better than not at all */
        x->said = true;
        return HEALTH_SILENCE_RAISE;
    }
    if (!silent && (x->said || (changed && speaks))) {
        x->said = false;
        return HEALTH_SILENCE_RESOLVE;
    }
    return HEALTH_SILENCE_NONE;
}
