"""What may go wrong in a graph, a kernel or the scheduler without a crash, and who must notice.

The tests of ../shared cost seconds each, so they take part in few. `old` stands exactly once in the source; a text that was moved or rewritten fails the test until this table
knows it again. Every mutation is noticed by a test that needs nothing outside the tree."""
import typing


class Test(typing.NamedTuple):
    program: str  # in the build folder
    claim: str = ''  # the cmocka test that must fail; empty: the program has one claim
    args: tuple = ()


class Mutation(typing.NamedTuple):
    name: str
    old: str
    new: str
    tests: tuple


GRAPH = Test('tests/unit/engine/test-engine-graph', 'logits_are_those_of_the_written_out_pass', ('logits_*',))
FORMATS = Test('tests/unit/engine/test-engine-graph', 'every_format_takes_its_activations', ('every_*',))
LAYOUTS = Test('tests/unit/engine/test-engine-layouts', 'rows_decode_as_their_descriptions_read')
PACKED = Test('tests/unit/engine/test-engine-format', 'packed_rows_decode_to_what_the_file_says')
PANELS = Test('tests/unit/engine/test-engine-format', 'panels_multiply_as_their_rows_do')
AVX512 = Test('tests/kernels/kernels-check', '', ('--level', 'avx512'))
AVX2 = Test('tests/kernels/kernels-check', '', ('--level', 'avx2'))
ACT = 'tests/unit/engine/test-engine-act'
QUANT = Test('tests/oracle/oracle-quant')
PRODUCT = Test('tests/unit/engine/test-engine-product', 'threads_share_a_product_without_a_trace')
STEP = Test('tests/unit/engine/test-engine-step', 'a_long_step_is_many_short_ones')
CACHE = Test('tests/unit/engine/test-engine-attention', 'a_cache_of_int8_is_near_one_of_floats')
QWEN3 = Test('tests/oracle/oracle-logits', '', ('--case', 'qwen3-f32', '--level', 'scalar'))
BITNET = Test('tests/oracle/oracle-logits', '', ('--case', 'bitnet158-f32', '--level', 'scalar'))
CHAT = 'tests/unit/engine_text/test-engine_text-chat'
KV = 'tests/unit/engine/test-engine-kv_cache'
CHAT_ORACLE = Test('tests/oracle/oracle-chat')
SCALAR = 'tests/unit/engine_kernels/test-engine-kernels-scalar'
ENCODED = Test('tests/unit/engine/test-engine-format', 'blocks_encode_as_the_formulas_say')
TWINS = Test('tests/oracle/oracle-encode')
GRADIENTS = 'tests/unit/train/test-train-gradients'
OF_FLOATS = Test(GRADIENTS, 'gradients_of_floats_are_those_of_the_loss', ('gradients_of_floats*',))
OF_MODES = Test(GRADIENTS, 'gradients_of_every_mode_are_those_of_its_stand_in', ('gradients_of_every*',))


def promise(claim, runs=30):
    """A property of the scheduler, over so many seeded runs."""
    return Test('tests/simulate/test_promises', claim, (claim, str(runs)))


def trouble(claim, runs=30):
    return Test('tests/simulate/test_trouble', claim, (claim, str(runs)))


MUTATIONS = [
    Mutation('the norm of a head after rope',
             '''            if (w) {
                k->scale_mul(x, scales[i], w, x, hd);
            }
            rotate(x, cosines, sines, half);
''',
             '''            rotate(x, cosines, sines, half);
            if (w) {
                k->scale_mul(x, scales[i], w, x, hd);
            }
''', (GRAPH, QWEN3)),
    Mutation('the norm of a head with the scale of its neighbour', 'scale_mul(x, scales[i], w, x, hd);',
             'scale_mul(x, scales[i ^ 1], w, x, hd);', (GRAPH, QWEN3)),
    Mutation('keys with the norm of queries', 'norm_and_rotate(a, row, a->l->k_norm,', 'norm_and_rotate(a, row, a->l->q_norm,',
             (GRAPH,)),
    Mutation('epsilon of another model', 'sqrtf(mean + eps)', 'sqrtf(mean + 1e-5f)', (GRAPH,)),
    Mutation('epsilon outside the root', 'sqrtf(mean + eps)', '(sqrtf(mean) + eps)', (GRAPH,)),
    Mutation('heads share keys in turn', 'head / (s->n_head / s->n_head_kv)', 'head % s->n_head_kv', (GRAPH,)),
    Mutation('rope pairs the other way',
             'pairs == PAIRS_NEIGHBOURS;', 'pairs != PAIRS_NEIGHBOURS;', (GRAPH,)),
    Mutation('no norm before the output of attention', 'if (lc->l->attn_sub_norm) {', 'if (0) {', (GRAPH,)),
    Mutation('no norm before the last product', '    if (fc->l->ffn_sub_norm) {', '    if (0) {', (GRAPH,)),
    Mutation('logits multiplied by what divides them', 's->logit_scale = 1.0f / s->logit_scale;', '', (GRAPH,)),
    Mutation('biases left out', 'm->bias ? x + m->bias[row] : x', 'x', (GRAPH,)),
    Mutation('the factors of long contexts in short ones', 'gguf_tensor_find(g, "rope_factors_short.weight");',
             'gguf_tensor_find(g, "rope_factors_long.weight");', (GRAPH,)),
    Mutation('a scale per block in a BitNet', 'return one_scale ? ACT_TOKEN_256 : ACT_256;', 'return ACT_256;',
             (FORMATS,)),
    Mutation('scores not divided by the root of a head', '1.0f / sqrtf((float)hd)', '1.0f / (float)hd', (GRAPH,)),
    Mutation('SiLU for squared ReLU', '? k->relu2_mul : k->silu_mul', '? k->silu_mul : k->silu_mul',
             (GRAPH, BITNET)),
    Mutation('squared ReLU for SiLU', '? k->relu2_mul : k->silu_mul', '? k->relu2_mul : k->relu2_mul',
             (GRAPH,)),
    Mutation('the scale beside a matrix left out', 'const float x = out[row] * m->scale;', 'const float x = out[row];', (GRAPH,)),
    Mutation('the embedding not scaled', 'x[i] *= s->embd_scale;', '(void)x[i];', (GRAPH,)),
    Mutation('what a layer adds not scaled', 'add_scaled(x, h, s->residual_scale, x, n);', 'add_scaled(x, h, 1.0f, x, n);', (GRAPH,)),
    Mutation('a key with the scale of its neighbour', '* keys->d[i];', '* keys->d[i ^ 1];', (CACHE,)),
    Mutation('a value with the scale of its neighbour', 'kind == ROW_I8 ? weight[t][j] * values->d[j]',
             'kind == ROW_I8 ? weight[t][j] * values->d[j ^ 1]', (CACHE,)),
    Mutation('a row sees what comes after it', 'p.n_seen[t] = st->rows[row].pos + 1;',
             'p.n_seen[t] = st->rows[end - 1].pos + 1;', (GRAPH,)),
    Mutation('the scores of a query in the place of another', 'thread_i * KERN_QUERIES + t', 'thread_i * KERN_QUERIES',
             (GRAPH,)),
    Mutation('the scales of the first tokens for all of a long step', '.d = in->d + part->first * in->d_stride,', '.d = in->d,',
             (STEP,)),
    Mutation('the tables of the first tokens for all of a long step', 'if (j->tables_of[p->thread_i] != p->first + 1) {',
             'if (j->tables_of[p->thread_i] == 0) {', (PRODUCT,)),
    Mutation('wide sums that begin with what was there', 'sum[v] = begin ? iv_all(ZERO_SUM) : iv_load(at + v * LANES);',
             'sum[v] = iv_load(at + v * LANES);', (PRODUCT,)),
    Mutation('a byte of ternary codes taken for neighbours', 'x[k] = iv_load(&room->q[first + 4 * k][v * LANES]);',
             'x[k] = iv_load(&room->q[4 * i + k][v * LANES]);', (PRODUCT,)),
    Mutation('the scales of the first pass for the second', 't < pass->n ? act->d[(pass->first + t) * act->d_stride + first + b] : 0;',
             't < pass->n ? act->d[t * act->d_stride + first + b] : 0;', (PRODUCT,)),
    Mutation('binary tables without what lies below them', 'i == 0 ? ZERO_SUM : 0', '0', (PRODUCT,)),
    Mutation('the high tables of even quads for the odd ones', '_mm512_loadu_si512(tables + HIGH + 64)',
             '_mm512_loadu_si512(tables + HIGH)', (AVX512,)),
    Mutation('the sums of a panel in the lane of another', '_mm512_shuffle_i32x4(a, b, 0x88)',
             '_mm512_shuffle_i32x4(b, a, 0x88)', (AVX512,)),
    Mutation('equal signs that make -1', 's += plus != minus ? 1 : -1;', 's += plus == minus ? 1 : -1;',
             (Test(ACT, 'bits_multiply_as_their_int8_does'), GRAPH)),
    Mutation('signs counted from another middle', 'second, _mm512_set1_epi32(X1_GROUP / 2)', 'second, _mm512_set1_epi32(X1_GROUP)',
             (AVX512,)),
    Mutation('a line of signs twice', 'ones(w[2], b + 8), ones(w[3], b + 12)', 'ones(w[2], b + 8), ones(w[3], b + 8)', (AVX512,)),
    Mutation('one nibble of signs', 'return _mm256_add_epi8(low, high);', 'return _mm256_add_epi8(low, low);', (AVX2,)),
    Mutation('a zero is minus one', 'q[i] = x[i] >= threshold[i] ? 1 : -1;', 'q[i] = x[i] > threshold[i] ? 1 : -1;',
             (Test(ACT, 'signs_are_plus_one_from_the_threshold_on'),)),
    Mutation('NaN as a sign', 'return broken ? float_of(0x7fc00000) : 1.0f;', 'return 1.0f;',
             (Test(ACT, 'a_broken_input_shows_in_the_logits'),)),
    Mutation('thresholds of the other half of a layer', 'act_wanted(&l->up), l->ffn_threshold', 'act_wanted(&l->up), l->attn_threshold',
             (GRAPH,)),
    Mutation('float weights with their own inputs', '&& in_layer ? ACT_WIDE_32 : ACT_32', '&& in_layer ? ACT_32 : ACT_32', (GRAPH,)),
    Mutation('wide rows in the place of the first ones', '&act, out + at * PANEL_ROWS, p->stride,', '&act, out, p->stride,',
             (PRODUCT,)),
    Mutation('rounding to half away from zero', '(x[i] * inverse + 0x1.8p23f) - 0x1.8p23f', 'roundf(x[i] * inverse)',
             (Test(SCALAR, 'quant_rounds_ties_to_even_and_sums_what_it_wrote'),)),
    Mutation('an answer without its end', 'answer ? "<|endoftext|>" : ""', '""',
             (Test(CHAT, 'falcon3_ends_answers'), CHAT_ORACLE)),
    Mutation('contents not trimmed', '''        add_z(out, r, ": ");
        add(out, r, trim(m[i].content));''', '''        add_z(out, r, ": ");
        add(out, r, m[i].content);''', (Test(CHAT, 'bitnet_names_roles_in_words'), CHAT_ORACLE)),
    Mutation('a placeholder taken for a template', 'k->placeholder ? behind_placeholder(arch, pre) : k->template', 'k->template',
             (Test(CHAT, 'a_placeholder_means_what_its_file_is'),)),
    Mutation('a text may say more than a known one', 'return at.n == 0 && ((all', 'return ((all',
             (Test(CHAT, 'lookalikes_are_not_taken'),)),
    Mutation('I2_S in blocks of 64 weights and 16 bytes', 'block[i % 32] >> (6 - 2 * (i / 32)) & 3u',
             'block[i / 64 * 16 + i % 16] >> (6 - 2 * (i % 64 / 16)) & 3u', (LAYOUTS, QUANT)),
    Mutation('I2_S from the lowest bits up', 'block[i % 32] >> (6 - 2 * (i / 32)) & 3u',
             'block[i % 32] >> (2 * (i / 32)) & 3u', (LAYOUTS,)),
    Mutation('I2_S without its scale', 'f == FORMAT_IQ2_BN ? load_f32(row_bytes) : scale',
             'f == FORMAT_IQ2_BN ? load_f32(row_bytes) : 1.0f', (PACKED, QUANT)),
    Mutation('the scale of a row left out of its product', 'return (float)s * scale / d[0];', 'return (float)s / d[0];',
             (PANELS,)),
    Mutation('Q2_0 takes code 3 for zero', 'return block[2 + i / 4] >> (2 * (i % 4)) & 3u;',
             'return 0x64u >> 2 * (block[2 + i / 4] >> (2 * (i % 4)) & 3u) & 3u;', (LAYOUTS,)),
    Mutation('TQ1_0 from the last digit up', 'power[5] = {1, 3, 9, 27, 81}', 'power[5] = {81, 27, 9, 3, 1}',
             (LAYOUTS,)),
    Mutation('IQ2_BN from the highest bits down', 'block[i % 16] >> (2 * (i / 16)) & 3u',
             'block[i % 16] >> (6 - 2 * (i / 16)) & 3u', (LAYOUTS,)),
    Mutation('K scales without their upper bits', '(s[j + 4] & 15u) | (unsigned)(s[j - 4] >> 6) << 4', '(s[j + 4] & 15u)',
             (LAYOUTS,)),
    Mutation('weights rounded half to even', 'const float r = roundf(v);', 'const float r = rintf(v);', (ENCODED,)),
    Mutation('Q2_0 with a code of 3', 'unsigned)(round_clamp(x * inv, -1, 1) + 1)',
             'unsigned)(round_clamp(x * inv * 2, -1, 2) + 1)', (ENCODED,)),
    Mutation('digits of TQ1_0 rounded down', '(v * 256 + 242) / 243', '(v * 256) / 243', (ENCODED, TWINS)),
    Mutation('Q4_0 with a scale that is always positive', 'const float d = extreme / -8.0f;',
             'const float d = fabsf(extreme) / 8.0f;', (ENCODED, TWINS)),
    Mutation('codes of Q4_0 cut, not rounded', 'x[at + i] * inv + 8.5f', 'x[at + i] * inv + 8.0f', (ENCODED,)),
    Mutation('service not charged', 'a->counter[j->class_] += (double)n / a->weight;', '',
             (promise('two_equal_identities_stay_within_two_steps_of_each_other'),)),
    Mutation('what was not had while idle is had later', 'a->counter[c] = fmax(a->counter[c], s->floor[c]);', '',
             (promise('two_models_are_shared_as_one_is'),)),
    Mutation('prompts not charged', 'charge(s, j, (uint64_t)fresh * SCHED_PROMPT_COST);', '',
             (promise('any_minute_is_shared_evenly'),)),
    Mutation('a twentieth for low', '#define LOW_SHARE 0.11', '#define LOW_SHARE 0.05',
             (promise('low_gets_a_tenth_of_any_minute'),)),
    Mutation('turns in the order requests came', 'return a->key < b->key || (a->key == b->key && a->seq < b->seq);',
             'return a->seq < b->seq;', (promise('fifty_connections_get_no_more_than_one'),
                                         promise('a_single_request_is_not_kept_by_fifty_of_another'))),
    Mutation('the lowest class first', 'for (int c = CLASSES - 1; c >= 0; c--) {\n        const size_t before_it',
             'for (int c = 0; c < CLASSES; c++) {\n        const size_t before_it',
             (promise('a_high_request_is_computed_in_the_step_after_it_came'),)),
    Mutation('a token of a prompt in each step', 'isinf(least) ? 0 : (uint32_t)least;', '1;',
             (promise('fair_does_the_work_of_first_come_first_served', 40),)),
    Mutation('short steps where nobody comes', '#define STEP_LONG_US 400e3', '#define STEP_LONG_US 20e3',
             (promise('labelling_alone_loses_little_against_first_come_first_served', 40),)),
    Mutation('long steps where many come', 'stop_credit_us(p) < most_us', 'false', (promise('little_is_thrown_away_however_many_come'),)),
    Mutation('a step of low ends by itself', '    s->stop_credit_us = credit_us - gone_us;\n    s->stop_ns = p->now_ns;\n    return true;',
             '    return false;', (promise('who_comes_does_not_wait_for_low'),)),
    Mutation('what is thrown away costs nothing', '    s->stop_credit_us = credit_us - gone_us;\n', '',
             (promise('little_is_thrown_away_however_many_come'),)),
    Mutation('who does not read gets more', '!j->picked && !j->blocked && !j->parked', '!j->picked && !j->parked',
             (trouble('who_does_not_read_holds_nobody_up'),)),
    Mutation('a bucket that holds nobody', '!j->picked && !j->blocked && !j->parked', '!j->picked && !j->blocked',
             (trouble('waiting_at_a_bucket_blocks_nobody'),)),
    Mutation('KV that has run out is not given back', 'm->blocks_used > m->kv_blocks && m->n_held > 1', 'false',
             (trouble('little_kv_serves_everybody_in_the_end', 200),)),
    Mutation('prompts of the dead wait on', 'set_left(j, 0);\n    list_remove(&j->own_link);', 'list_remove(&j->own_link);',
             (trouble('nothing_is_left_over_whatever_happens'),)),
    Mutation('a fault too many', 'b->open || b->faults >= limits->faults', 'b->open || b->faults > limits->faults',
             (trouble('the_breaker_opens_probes_and_closes'),)),
    Mutation('a probe too early', 'now_ns + limits->open_ns;', 'now_ns + limits->open_ns / 2;',
             (trouble('the_breaker_opens_probes_and_closes'),)),
    Mutation('one good answer of before closes it', '    if (!probe) {\n        return false;\n    }\n    *b = (struct breaker){0};',
             '    *b = (struct breaker){0};', (trouble('the_breaker_opens_probes_and_closes', 200),)),
    Mutation('a KV block passes on with what is in it', '    if (b->dirty) {', '    if (0) {',
             (Test(KV, 'a_canary_never_shows_in_anothers_blocks'),)),
    Mutation('a KV block is free with its ids', '*b = (struct kv_block){.dirty = b->dirty};', 'b->kept = false;',
             (Test(KV, 'a_canary_never_shows_in_anothers_blocks'),)),
    Mutation('KV is found under any salt', 'memcmp(b->salt, w->salt, KV_SALT) == 0 && ', '',
             (Test(KV, 'a_collision_of_hashes_finds_nothing'),)),
    Mutation('what was public can still be found', '    memcpy(pool->label, label, KV_SALT);', '',
             (Test(KV, 'what_was_public_is_found_under_its_label_alone'),)),
    Mutation('rope is not turned back', 'vec_store(g + half + i, b * c - a * s);', 'vec_store(g + half + i, b * c + a * s);',
             (OF_FLOATS,)),
    Mutation('the mean in a norm\'s gradient', 'const vec d = vec_load(dh + i) * vec_load(w + i) - u * vec_set(mean);',
             'const vec d = vec_load(dh + i) * vec_load(w + i) - u * vec_set(mean) * vec_set(0.999f);', (OF_FLOATS,)),
    Mutation('the softmax\'s sum in its gradient', 'mean = vec_set(vec_sum(sum)), by = vec_set(scale);',
             'mean = vec_set(0), by = vec_set(scale);', (OF_FLOATS,)),
    Mutation('a gradient of queries goes to the first head of its group', 'o.dq = d + from * w->qkv + h * w->head;',
             'o.dq = d + from * w->qkv + h / group * w->head;', (OF_FLOATS,)),
    Mutation('the head gives the embedding no gradient',
             'gemm_tn_add(n_vocab, width, n, d, hs, c->work->grads, width);', 'gemm_tn_add(n_vocab, width, 0, d, hs, c->work->grads, width);',
             (OF_FLOATS,)),
    Mutation('a gradient passes where binary inputs do not let it', 'input_back(c, layer, IN_O, a->att + t * w->q, c->work->d2 + t * w->q);',
             '', (OF_MODES,)),
    Mutation('another input\'s thresholds', 'const net_real *t = net->thresholds + state_at(net, layer, in);',
             'const net_real *t = net->thresholds + state_at(net, layer, IN_QKV);', (OF_MODES,)),
    Mutation('one step of the staircase twice', 'tanh_slope(by * (u - half)) + tanh_slope(by * (u + half))',
             'tanh_slope(by * (u - half)) + tanh_slope(by * (u - half))', (OF_MODES,)),
    Mutation('the scale of another group', 'scales[(r * t->cols + c) / GROUP], k', 'scales[c / GROUP], k', (OF_MODES,)),
]
