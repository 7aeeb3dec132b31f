    // The body of what multiplies a thread's four rows with TOKENS rows of activations; included, not called. It wants:
    // rows_at, part_step: the first of the weights, and from gate to up; scales_at: the first factor; lane: the thread's quad of
    // 16 rows; at$t, group$t: where token t's activations begin, as floats and as groups of fewer bits. It leaves sum0_$t.
    //@ repeat part: PARTS
    //@ repeat t: TOKENS
    var sum$part_$t = vec4<f32>();
    //@ end
    scale_row = scales_at + $partu * p.scale_up;
    let first$part = rows_at + $partu * part_step;
    for (var k = local.y; k < p.groups; k += SPLITS) {
        let g = group(first$part, k, lane);
        //@ repeat float: FLOAT
        let column = k * (GROUP_VALUES / 4u);
        //@ repeat i: FOURS
        let w$i = four$i(g);
        //@ repeat t: TOKENS
        sum$part_$t += x[at$t + column + $iu] * w$i;
        //@ end
        //@ end
        //@ end
        //@ repeat half: HALF
        let w = halves(g);
        let scale = factor(g);
        //@ repeat t: TOKENS
        let c$t = group$t + k;
        sum$part_$t += scale * factors[c$t >> 3u].x * vec4<f32>(halved[c$t] * w);
        //@ end
        //@ end
        //@ repeat int8: INT8
        //@ repeat t: TOKENS
        let c$t = group$t + k;
        let low$t = products(g.q0, g.q1, g.q2, g.q3, codes[2u * c$t]);
        let high$t = products(g.q4, g.q5, g.q6, g.q7, codes[2u * c$t + 1u]);
        let f$t = factors[c$t];
        sum$part_$t += f$t.x * (g.d0 * low$t + g.d1 * high$t) + f$t.y * g.m0 + f$t.z * g.m1;
        //@ end
        //@ end
    }
    //@ end
    if SPLITS > 1u {
        let me = local.y * QUADS + local.x;
        //@ repeat part: PARTS
        //@ repeat t: TOKENS
        partial[($partu * TOKENS + $tu) * QUADS * SPLITS + me] = sum$part_$t;
        //@ end
        //@ end
        workgroupBarrier();
        if local.y > 0u {
            return;
        }
        for (var split = 1u; split < SPLITS; split++) {
            let other = split * QUADS + local.x;
            //@ repeat part: PARTS
            //@ repeat t: TOKENS
            sum$part_$t += partial[($partu * TOKENS + $tu) * QUADS * SPLITS + other];
            //@ end
            //@ end
        }
    }
    if wanted >= p.quads {
        return;
    }
    //@ repeat part: GATED
    //@ repeat t: TOKENS
    sum0_$t = silu(sum0_$t) * sum$part_$t;
    //@ end
    //@ end
