// The planner of 5_allocate: what laws/allocation.py finds within a total budget, on a sample of the draws.
(() => {
  const root = document.querySelector(".planner");
  const data = JSON.parse(root.querySelector("[type='application/json']").textContent);
  const POINTS = 97;
  const find = name => root.querySelector(`[name=${name}]`);

  const logCost = ({ cost: { sizes, flops } }, x) => {
    let i = 0;
    while (i < sizes.length - 2 && x > sizes[i + 1]) i++;
    return flops[i] + (flops[i + 1] - flops[i]) / (sizes[i + 1] - sizes[i]) * (x - sizes[i]);
  };
  const logPairs = plan => Math.log(plan.serving_price / 1e18 * plan.queries * plan.depth * data.share);
  const within = (x, low, high) => Math.min(Math.max(x, low), high), sum = numbers => numbers.reduce((a, b) => a + b, 0);

  // Laws around the end of the largest fitted rung, as laws/local.py has them: the logarithm of the gap at log size u and
  // log exposure v beyond it.
  const exp = Math.exp, share = x => 1 / (1 + exp(-x));
  const power = (rate, x) => Math.expm1(Math.min(-rate * x, 50));
  const closing = (level, closed) => level + Math.log(Math.max(1 + closed, 1e-6));
  const LAWS = {
    additive: ([level, size, alpha, exposure, beta], u, v) => {
      const rest = 1 + exp(size) + exp(exposure);
      return closing(level, exp(size) / rest * power(exp(alpha), u) + exp(exposure) / rest * power(exp(beta), v));
    },
    logarithm: ([level, size, alpha, exposure, beta], u, v) =>
      within(level + exp(size - alpha) * power(exp(alpha), u) + exp(exposure - beta) * power(exp(beta), v), -40, 60),
    Kaplan: ([level, part, alpha, beta, shape], u, v) => {
      const bySize = share(shape) * exp(within(-exp(alpha - beta) * u, -50, 50)), all = bySize + (1 - share(shape)) * exp(-v);
      return closing(level, share(part) * (Math.min(all, exp(50)) ** exp(beta) - 1));
    },
    sigmoid: ([level, part, alpha, beta, shape], u, v) => {
      const c = exp(shape), rise = within(exp(alpha) * u + exp(beta) * v, -50, 50);
      return closing(level, share(part) * ((1 + c) / (1 + c * exp(rise)) - 1));
    },
  };
  const offScale = (one, n) => one.scale === "arcsine" ? one.limits[0] + (one.limits[1] - one.limits[0]) * Math.sin(within(n, 0, Math.PI) / 2) ** 2
    : one.limits[0] + exp(Math.min(n, 700));
  const number = (one, logGap) => {
    if (one.scale !== "arcsine") return Math.log(Math.max(exp(logGap), 1e-12));
    const value = one.rising ? one.limits[1] - exp(logGap) : one.limits[0] + exp(logGap);
    return 2 * Math.asin(Math.sqrt(within((value - one.limits[0]) / (one.limits[1] - one.limits[0]), 0, 1)));
  };

  // What the drawn laws say at one size and exposure, and how wrong they may be: Average.mixture of laws/averaging.py.
  const mixture = (one, x, y) => {
    const u = x - one.reference[0], v = y - one.reference[1];
    const centres = one.draws.map(draw => number(one, LAWS[draw.form](draw.theta, u, v)));
    const mean = sum(centres.map((c, i) => c * one.draws[i].share));
    const near = 0.05 * Math.sqrt(sum(centres.map((c, i) => one.draws[i].share * (c - mean) ** 2)));
    const wrong = one.draws.map(draw => Math.hypot(draw.doubts[0] * Math.max(u, 0), draw.doubts[1] * Math.max(v, 0)));
    return { centres, law: wrong.map(sd => Math.max(sd, near)), run: wrong.map((sd, i) => Math.max(Math.hypot(sd, one.draws[i].doubts[2]), near)) };
  };
  const ndtr = x => { // to 8e-8: Abramowitz and Stegun, 7.1.26, of x over the root of 2
    const t = 1 / (1 + 0.3275911 * Math.abs(x) / Math.SQRT2);
    const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * exp(-x * x / 2) / 2;
    return x > 0 ? 1 - tail : tail;
  };
  const quantile = (one, centres, sds, wanted) => {
    sds = sds.map(sd => Math.max(sd, 1e-12));
    let low = Math.min(...centres.map((c, i) => c - 9 * sds[i])), high = Math.max(...centres.map((c, i) => c + 9 * sds[i]));
    let found = sum(centres.map((c, i) => c * one.draws[i].share));
    for (let step = 0; step < 60; step++) {
      let excess = -wanted, density = 0;
      for (let i = 0; i < centres.length; i++) {
        const distance = (found - centres[i]) / sds[i];
        excess += one.draws[i].share * ndtr(distance);
        density += one.draws[i].share * exp(-distance * distance / 2) / sds[i];
      }
      if (Math.abs(excess) < 1e-7) break;
      if (excess < 0) low = found; else high = found;
      const moved = found - excess * Math.sqrt(2 * Math.PI) / Math.max(density, 1e-12);
      found = low < moved && moved < high ? moved : (low + high) / 2;
    }
    return found;
  };
  const median = (one, said) => quantile(one, said.centres, said.law, 0.5);
  const forecast = (one, said) => {
    const [lo, hi] = [(1 - data.level) / 2, (1 + data.level) / 2].map(q => offScale(one, quantile(one, said.centres, said.run, q)));
    return [offScale(one, median(one, said)), lo, hi];
  };

  // The line of sizes and of what a budget leaves to exposure, as far as the runs tell: laws/allocation.py.
  const exposureOf = (one, plan) => x => {
    const left = -Math.expm1(Math.min(logPairs(plan) + logCost(one, x) - Math.log(plan.budget), 0));
    return Math.log(plan.budget) + Math.log(left) - Math.log(plan.training_price / 1e18) - logCost(one, x);
  };
  const spaced = (low, high, n) => Array.from({ length: n }, (_, i) => low + (high - low) * i / (n - 1));
  const lineOf = (one, plan) => {
    const exposure = exposureOf(one, plan), [shortest, longest] = one.reach[1];
    const cross = (low, high, wanted) => {
      for (let i = 0; i < 30; i++) [low, high] = exposure((low + high) / 2) > wanted ? [(low + high) / 2, high] : [low, (low + high) / 2];
      return (low + high) / 2;
    };
    const fine = spaced(...one.reach[0], 4 * POINTS);
    const first = fine.findIndex(x => exposure(x) <= longest), last = fine.findLastIndex(x => exposure(x) >= shortest);
    if (first < 0 || last < 0) return null;
    const low = first ? cross(fine[first - 1], fine[first], longest) : fine[first];
    const high = fine[last + 1] ? cross(fine[last], fine[last + 1], shortest) : fine[last];
    return { low, high, at: x => within(exposure(x), shortest, longest) };
  };
  const solve = (one, plan) => {
    const line = lineOf(one, plan);
    if (!line) return null;
    const sign = one.rising ? 1 : -1, grid = spaced(line.low, line.high, POINTS), said = grid.map(x => mixture(one, x, line.at(x)));
    const best = numbers => numbers.reduce((top, n, i) => n > numbers[top] ? i : top, 0);
    const place = best(said.map(at => sign * median(one, at)));
    const closer = spaced(grid[Math.max(place - 1, 0)], grid[Math.min(place + 1, POINTS - 1)], POINTS >> 2);
    const size = closer[best(closer.map(x => sign * median(one, mixture(one, x, line.at(x)))))];
    const drawn = one.draws.map((draw, i) => [grid[best(said.map(at => sign * at.centres[i]))], draw.share, draw.form])
      .filter(([, , form]) => data.with_optimum.includes(form)).sort((a, b) => a[0] - b[0]);
    const total = sum(drawn.map(([, share]) => share));
    const end = wanted => {
      let reached = 0;
      return drawn.find(([, share]) => (reached += share) >= wanted * total)[0];
    };
    const sizes = [size, Math.min(end((1 - data.level) / 2), size), Math.max(end((1 + data.level) / 2), size)];
    const exposures = [0, 2, 1].map(i => line.at(sizes[i]));
    const serving = sizes.map(x => exp(logPairs(plan) + logCost(one, x)));
    const training = [0, 1, 2].map(i => exp(Math.log(plan.training_price / 1e18) + logCost(one, sizes[i]) + line.at(sizes[i])));
    const ordered = ([middle, a, b]) => [middle, Math.min(a, b), Math.max(a, b)];
    return { line, size: sizes.map(exp), exposure: exposures.map(exp), value: forecast(one, mixture(one, size, line.at(size))),
             training: ordered(training), serving: ordered(serving) };
  };

  const si = x => {
    if (!(x >= 1)) return "< 1";
    if (!(x < 1e18)) return "> 10¹⁸";
    const power = Math.min(Math.floor(Math.log10(Number(x.toPrecision(3))) / 3 + 1e-9), 5);
    return Number((x / 1000 ** power).toPrecision(3)) + ["", "k", "M", "B", "T", "P"][power];
  };
  const dollars = x => x >= 1e15 ? "over $1e15" : x >= 1000 ? "$" + si(x) : x > 0 && x < 1e-6 ? "under $1e-6"
    : "$" + (x > 0 && x < 1e-4 ? x.toExponential(2) : Number(x.toPrecision(3)));
  const write = { size: si, exposure: si, value: x => isFinite(x) ? x.toFixed(4) : "∞", training: dollars, serving: dollars };

  // A slider's place 0 is the study's own number; else two digits of tenths of a power of ten. Queries end in none.
  const WORDS = [[1e12, "trillion"], [1e9, "billion"], [1e6, "million"], [1, ""]];
  const words = x => {
    const [unit, word] = WORDS.find(([unit]) => x >= unit) ?? [1, ""];
    return x ? `${Number((x / unit).toPrecision(3)).toLocaleString("en")} ${word}` : "none";
  };
  const price = x => x < 0.1 ? dollars(x) : `$${x.toFixed(2)}`;
  const SLIDERS = { budget: dollars, queries: words, depth: x => x.toLocaleString("en"), training_price: price, serving_price: price };
  const numberOf = name => {
    const { value, min } = find(name), given = data.plan[name];
    if (name === "queries" && value === min) return 0;
    if (value === "0" && given) return given;
    const moved = Number(((given || data.fallback[name]) * 10 ** (value / 20)).toPrecision(2));
    return name === "depth" ? Math.max(1, Math.round(moved)) : moved;
  };

  function show() {
    const one = data.series[find("series").value];
    const plan = Object.fromEntries(Object.keys(SLIDERS).map(name => [name, numberOf(name)]));
    for (const name in SLIDERS) {
      const said = SLIDERS[name](plan[name]);
      find(name).setAttribute("aria-valuetext", said);
      root.querySelector(`[for=planner-${name}] b`).textContent = said;
    }
    const found = solve(one, plan);
    for (const name in write) {
      const cell = root.querySelector(`[data-of=${name}]`), numbers = found?.[name] ?? [];
      const [middle, low, high] = numbers.map(write[name]);
      cell.dataset.numbers = numbers.join(" ");
      cell.querySelector("b").textContent = middle ?? "–";
      cell.querySelector("span").textContent = found ? `${low} – ${high}` : "";
    }
    const share = found ? found.serving[0] / plan.budget : 0;
    root.querySelector(".split i").style.width = `${100 * share}%`;
    root.querySelector(".note").textContent = found ? note(one, plan, found, share) : NOT_TOLD;
    root.querySelector("figure").hidden = !found;
    if (found) draw(one, plan, found);
  }

  const NOT_TOLD = "Not told by these runs: no size and exposure within ten times what was fitted cost so much, or so little.";
  const times = x => Number(x.toPrecision(2)).toLocaleString("en");
  const beyond = (x, [low, high]) => x > 1.05 * high ? `${times(x / high)} times the largest` : 1.05 * x < low ? `a ${times(low / x)}th of the smallest` : "";
  function note(one, plan, found, share) {
    const far = [["The size", "size", one.sizes, 0], ["The exposure", "exposure", one.exposures, 1]].map(([word, name, range, axis]) => {
      const ends = one.reach[axis], atEnd = ends.some(end => Math.abs(Math.log(found[name][0]) - end) < 1e-6), far = beyond(found[name][0], range);
      return far && `${word} is ${far} that was measured${atEnd ? ", where what these runs tell ends; the best may lie beyond" : ""}.`;
    }).filter(Boolean);
    const percent = share > 0.995 && share < 1 ? "more than 99" : Math.round(100 * share);
    const factor = found.size[2] / found.size[1];
    const wide = factor > 30 ? `The runs hardly tell the size: its interval spans a factor of ${times(factor)}.` : "";
    const depth = data.measured_depth && plan.depth !== data.measured_depth ? `Quality was measured at ${data.measured_depth} candidates a query; ${plan.depth.toLocaleString("en")} are priced.` : "";
    return [`Serving takes ${percent}% of the budget.`, ...far, wide, depth].join(" ");
  }

  function draw(one, plan, found) {
    const holder = root.querySelector(".curve"), width = Math.max(holder.clientWidth || 640, 260), height = 250;
    const left = 46, right = 8, top = 10, bottom = 34;
    const logs = found.size.map(Math.log), { line } = found, [low, high] = [line.low, line.high];
    const curve = spaced(low, high, 61).map(x => [x, ...forecast(one, mixture(one, x, line.at(x)))]);
    const ends = curve.flatMap(([, , lo, hi]) => [lo, hi]), room = 0.03 * (Math.max(...ends) - Math.min(...ends) || 0.1);
    const frame = [Math.min(...ends) - room, Math.max(...ends) + room];
    const X = x => left + (x - low) / (high - low) * (width - left - right);
    const Y = v => top + (frame[1] - v) / (frame[1] - frame[0]) * (height - top - bottom);
    const dot = (x, v) => `${X(x).toFixed(1)},${Y(v).toFixed(1)}`, clip = x => Math.min(Math.max(X(x), left), width - right);
    const band = [...curve.map(([x, , lo]) => dot(x, lo)), ...curve.map(([x, , , hi]) => dot(x, hi)).reverse()].join(" ");
    let ticks = "";
    const decades = (high - low) / Math.LN10, every = Math.ceil(decades / (width / 75));
    if (Math.ceil(low / Math.LN10) * Math.LN10 > high) // no power of ten to mark: the ends are told
      ticks += [[low, "start"], [high, "end"]].map(([x, side]) => `<text x="${X(x)}" y="${height - bottom + 16}" text-anchor="${side}">${si(exp(x))}</text>`).join("");
    for (let p = Math.ceil(low / Math.LN10); p * Math.LN10 <= high; p++)
      if (p % every === 0) ticks += `<text x="${X(p * Math.LN10)}" y="${height - bottom + 16}" text-anchor="middle">${p < 18 && p >= 0 ? si(10 ** p) : "1e" + p}</text><path class="grid" d="M${X(p * Math.LN10)} ${top}V${height - bottom}"/>`;
    const rough = (frame[1] - frame[0]) / 3, unit = 10 ** Math.floor(Math.log10(rough)), step = unit * [1, 2, 5, 10].find(n => n * unit >= rough * 0.8);
    for (let v = Math.ceil(frame[0] / step) * step; v <= frame[1]; v += step)
      ticks += `<text x="${left - 6}" y="${Y(v) + 4}" text-anchor="end">${v.toFixed(Math.max(0, -Math.floor(Math.log10(step))))}</text><path class="grid" d="M${left} ${Y(v)}H${width - right}"/>`;
    const [from, to] = one.sizes.map(size => clip(Math.log(size)));
    holder.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Forecast quality against size at this total budget"><clipPath id="planner-frame"><rect x="${left}" y="${top}" width="${width - left - right}" height="${height - top - bottom}"/></clipPath>
<rect class="measured" x="${from}" y="${top}" width="${to - from}" height="${height - top - bottom}"/>${ticks}<g clip-path="url(#planner-frame)"><polygon class="band" points="${band}"/><polyline class="line" points="${curve.map(([x, v]) => dot(x, v)).join(" ")}"/></g>
<path class="reach" d="M${clip(logs[1])} ${Y(found.value[0])}H${clip(logs[2])}"/><circle cx="${X(logs[0])}" cy="${Y(found.value[0])}" r="5.5"/><text x="${(left + width - right) / 2}" y="${height - 3}" text-anchor="middle">${data.words[0]}</text></svg>`;
    root.querySelector("figcaption").firstElementChild.textContent = `${one.name} at this budget${one.rising ? "" : " (lower is better)"}`;
  }

  data.series.forEach((one, i) => {
    one.limits = one.limits.map((limit, i) => limit ?? (i ? Infinity : -Infinity));
    one.draws = one.draws.map(([form, share, ...numbers]) => ({ form: data.forms[form], share, doubts: numbers.slice(0, 3), theta: numbers.slice(3) }));
    find("series").add(new Option(one.name, i));
  });
  root.querySelector(".live").hidden = false;
  root.addEventListener("input", show);
  addEventListener("resize", show);
  show();
})();
