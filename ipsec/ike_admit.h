/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_admit.h - which messages libcharon is shown. Pure. */
#ifndef ARRD_IPSEC_IKE_ADMIT_H
#define ARRD_IPSEC_IKE_ADMIT_H

#include <stdbool.h>
#include <stdint.h>

/* Whether an IKE message (without the four zero octets of port 4500) has a header that makes sense by itself: IKEv2, one
 * of its four exchanges, encrypted but for the first, and a first request that answers nothing. */
bool ike_admit(const uint8_t *data, uint32_t len);

#endif
