/* SPDX-License-Identifier: GPL-2.0-or-later */
/* base_joincut_test.c - cutting and joining are inverse operations, on random super-packets and random batches. */
#include "test/unit/join.h"

/* join(cut(super)) is the super-packet again. */
static void test_join_of_cut(void **state)
{
	static uint8_t super[65536], seg[VNET_JOIN_GROUPS][4096];
	uint64_t seed = 20;
	struct vnet_join *j;

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (unsigned round = 0; round < 3000; round++) {
		struct pkt p, parts[VNET_JOIN_GROUPS], q;
		uint32_t hlen, plen, n = 0;
		const uint8_t *payload;
		struct vnet_cut c;
		struct spec s;

		random_super(&seed, super, &p, &s, round % (UDP6 + 1), rnd(&seed) % 2000 + 400);
		if (rnd(&seed) % 2) {
			s.flags |= TCP_PSH;
			packet_make(super, &s);
			assert_int_equal(pkt_parse(&p), DROP_NONE);
		}
		vnet_cut_start(&c, &p);
		while ((hlen = vnet_cut_next(&c, seg[n], &payload, &plen)) > 0) {
			memcpy(seg[n] + hlen, payload, plen);
			parts[n] = (struct pkt){.data = seg[n], .len = hlen + plen};
			assert_int_equal(pkt_parse(&parts[n]), DROP_NONE);
			assert_int_equal(pkt_check_csum(&parts[n]), DROP_NONE);
			assert_int_equal(parts[n].csum, PKT_CSUM_GOOD);
			assert_true(vnet_join_add(j, &parts[n], 5));
			n++;
		}
		out.n = 0;
		vnet_join_flush(j, collect, &out);
		assert_int_equal(out.n, 1);
		assert_int_equal(out.w[0].len, p.len);
		assert_memory_equal(out.w[0].b, super, p.len);
		reread(&out.w[0], &q);
		assert_int_equal(q.gso_size, p.gso_size);
	}
	vnet_join_free(j);
}

#define FLOWS 5
#define BATCH 64

/* cut(join(packets)) are the packets again, each flow's in their order; several owners with equal tuples and streams that
 * jump, push, acknowledge, change length and protocol. With DF the IPv4 ID may differ: it means nothing (RFC 6864). */
static void test_cut_of_join(void **state)
{
	static uint8_t buf[BATCH][4096], orig[BATCH][4096], seg[4096];
	uint64_t seed = 30, joined = 0;
	struct vnet_join *j;

	(void)state;
	assert_int_equal(vnet_join_new(&j, &all_on), 0);
	for (unsigned round = 0; round < 3000; round++) {
		struct spec flow[FLOWS];
		struct pkt p[BATCH];
		unsigned owner[BATCH], next[FLOWS], total = 0;

		for (unsigned f = 0; f < FLOWS; f++) {
			flow[f] = kind_spec(rnd(&seed) % KINDS);
			flow[f].df = rnd(&seed) % 2;
			flow[f].id = (uint16_t)rnd(&seed);
			flow[f].seq = rnd(&seed);
			flow[f].payload_len = rnd(&seed) % 1460 + 1;
			next[f] = 0;
		}
		for (unsigned i = 0; i < BATCH; i++) {
			unsigned f = owner[i] = rnd(&seed) % FLOWS;
			struct spec *s = &flow[f], now;

			now = *s;
			now.fill = rnd(&seed);
			now.csum = rnd(&seed) % 8 ? CSUM_FULL : CSUM_HALF;
			if (pkt_csum_offset(4, now.proto) < 6)
				now.csum = CSUM_FULL;
			switch (rnd(&seed) % 20) {
			case 0:
				now.flags |= TCP_PSH;
				break;
			case 1:
				now.payload_len = rnd(&seed) % now.payload_len;
				break;
			case 2:
				now.flags |= TCP_FIN;
				break;
			case 3:
				s->ack += 100;
				break;
			case 4:
				s->seq += 1;
				break;
			case 5:
				s->id += 3;
				break;
			case 6:
				s->payload_len = rnd(&seed) % 1460 + 1;
				break;
			default:
				break;
			}
			s->seq += now.payload_len;
			s->id++;
			p[i] = make_pkt(buf[i], &now);
			now.csum = CSUM_FULL; /* what comes out of cutting is complete */
			packet_make(orig[i], &now);
			assert_true(vnet_join_add(j, &p[i], f == FLOWS - 1 ? 0 : f + 1));
		}
		out.n = 0;
		vnet_join_flush(j, collect, &out);
		for (unsigned g = 0; g < out.n; g++) {
			unsigned f = owner[out.w[g].first - p];
			uint32_t hlen, plen, n = 0;
			const uint8_t *payload;
			struct vnet_cut c;
			struct pkt q;

			reread(&out.w[g], &q);
			vnet_cut_start(&c, &q);
			for (; (hlen = vnet_cut_next(&c, seg, &payload, &plen)) > 0; n++) {
				unsigned i = next[f]; /* the flow's next packet that was put in */

				while (owner[i] != f)
					i++;
				next[f] = i + 1;
				memcpy(seg + hlen, payload, plen);
				if (p[i].ver == 4 && p[i].df)
					memcpy(seg + 4, orig[i] + 4, 2), memcpy(seg + 10, orig[i] + 10, 2);
				assert_int_equal(hlen + plen, p[i].len);
				assert_memory_equal(seg, orig[i], p[i].len);
				total++;
			}
			assert_int_equal(n, out.w[g].npkts);
			joined += n - 1;
		}
		assert_int_equal(total, BATCH);
	}
	assert_true(joined > 3000 * BATCH / 4); /* else this test would say nothing */
	vnet_join_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join_of_cut),
		cmocka_unit_test(test_cut_of_join),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
