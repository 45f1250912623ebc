// The planner of 5_allocate: laws/lifetime.py's search for the best size within a total budget, on a sample of the draws.
(() => {
  const root = document.querySelector(".planner");
  const data = JSON.parse(root.querySelector("[type='application/json']").textContent);
  const { sizes, flops } = data.cost;
  const POINTS = 129, ROUNDS = 5;
  const find = name => root.querySelector(`[name=${name}]`);

  const logCost = x => {
    let i = 0;
    while (i < sizes.length - 2 && x > sizes[i + 1]) i++;
    return flops[i] + (flops[i + 1] - flops[i]) / (sizes[i + 1] - sizes[i]) * (x - sizes[i]);
  };
  const logSize = y => {
    let i = 0;
    while (i < flops.length - 2 && y > flops[i + 1]) i++;
    return sizes[i] + (y - flops[i]) / (flops[i + 1] - flops[i]) * (sizes[i + 1] - sizes[i]);
  };
  const logPairs = plan => Math.log(plan.serving_price / 1e18 * plan.queries * plan.depth * data.share);
  const logAdd = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
  const lawOf = (one, [limit, A, a, B, b]) => one.kaplan
    ? { limit, logA: Math.log(A) * a / b, a: a / b, logB: Math.log(B), b: 1, power: b }
    : { limit, logA: Math.log(A), a, logB: Math.log(B), b, power: 1 };
  const span = one => one.limits[1] - one.limits[0], within = (x, low, high) => Math.min(Math.max(x, low), high);
  const fromScale = (one, scale, n) => scale === "value" ? n
    : scale === "arcsine" ? one.limits[0] + span(one) * Math.sin(within(n, 0, Math.PI) / 2) ** 2
    : one.rising ? one.limits[1] - Math.exp(-n) : one.limits[0] + Math.exp(n);
  const toScale = (one, scale, v) => {
    if (scale === "value") return v;
    if (scale === "arcsine") return 2 * Math.asin(Math.sqrt(within((v - one.limits[0]) / span(one), 0, 1)));
    const log = Math.log(Math.max(one.rising ? one.limits[1] - v : v - one.limits[0], 1e-12));
    return one.rising ? -log : log;
  };

  // Everything at one log size: what is left for pairs once serving is paid, and the law's value. All but value are logs.
  const at = (one, law, plan, x) => {
    const pair = Math.log(plan.training_price / 1e18) + logCost(x);
    const serving = logPairs(plan) + logCost(x);
    const money = Math.log(plan.budget);
    const training = serving < money ? money + Math.log(-Math.expm1(serving - money)) : -Infinity;
    const exposure = training - pair;
    const sum = law.power * logAdd(law.logA - law.a * x, law.logB - law.b * exposure);
    return { size: x, exposure, training, serving, sum, value: fromScale(one, one.scale, law.limit + (one.rising ? -1 : 1) * Math.exp(sum)) };
  };
  const best = (one, law, plan) => {
    let [low, high] = one.window;
    for (let round = 0; round < ROUNDS; round++) {
      const step = (high - low) / (POINTS - 1);
      let least = Infinity, place = 0;
      for (let i = 0; i < POINTS; i++) {
        const { sum } = at(one, law, plan, low + i * step);
        if (sum < least) [least, place] = [sum, i];
      }
      [low, high] = [low + Math.max(place - 1, 0) * step, low + Math.min(place + 1, POINTS - 1) * step];
    }
    return at(one, law, plan, (low + high) / 2);
  };

  // As resampling.robust_sd: wild draws pulled in to four robust standard deviations.
  const robustSd = draws => {
    const sorted = [...draws].sort((a, b) => a - b);
    const quantile = q => {
      const place = (sorted.length - 1) * q, i = Math.floor(place);
      return sorted[i] + (place - i) * ((sorted[i + 1] ?? sorted[i]) - sorted[i]);
    };
    const low = quantile(0.15865525393), middle = quantile(0.5), high = quantile(0.84134474607), reach = 2 * (high - low);
    const kept = draws.map(x => Math.min(Math.max(x, middle - reach), middle + reach));
    const mean = kept.reduce((a, b) => a + b) / kept.length;
    return Math.sqrt(kept.reduce((a, x) => a + (x - mean) ** 2, 0) / kept.length);
  };
  const logEnds = (one, found, drawn) => found === -Infinity ? [0, 0, 0]
    : [0, -1, 1].map(side => Math.exp(found + (side && side * one.t * robustSd(drawn))));
  const valueEnds = (one, found, drawn) => {
    const [low, high] = one.limits.map((limit, i) => limit ?? (i ? Infinity : -Infinity));
    if (!one.spare) return [found, low, high];
    const reach = one.t * robustSd(drawn.map(v => toScale(one, one.residuals, v)));
    const end = side => fromScale(one, one.residuals, toScale(one, one.residuals, found) + side * reach);
    return [found, ...[-1, 1].map(side => Math.min(Math.max(end(side), low), high))];
  };
  const solve = (one, plan) => {
    const found = best(one, one.laws[0], plan), drawn = one.laws.slice(1).map(law => best(one, law, plan));
    const ends = name => logEnds(one, found[name], drawn.map(d => d[name]));
    const paid = name => ends(name).map(money => Math.min(money, plan.budget));
    const largest = Math.exp(logSize(Math.log(plan.budget) - logPairs(plan)));
    return { size: ends("size").map(size => Math.min(size, largest)), exposure: ends("exposure"), value: valueEnds(one, found.value, drawn.map(d => d.value)),
             training: paid("training"), serving: paid("serving") };
  };

  const si = x => {
    if (!(x >= 1)) return "< 1";
    if (!(x < 1e18)) return "> 10¹⁸";
    const power = Math.min(Math.floor(Math.log10(Number(x.toPrecision(3))) / 3 + 1e-9), 5);
    return Number((x / 1000 ** power).toPrecision(3)) + ["", "k", "M", "G", "T", "P"][power];
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
  const number = name => {
    const { value, min } = find(name), given = data.plan[name];
    if (name === "queries" && value === min) return 0;
    if (value === "0" && given) return given;
    const moved = Number(((given || data.fallback[name]) * 10 ** (value / 20)).toPrecision(2));
    return name === "depth" ? Math.max(1, Math.round(moved)) : moved;
  };

  function show() {
    const one = data.series[find("series").value];
    const plan = Object.fromEntries(Object.keys(SLIDERS).map(name => [name, number(name)]));
    for (const name in SLIDERS) {
      const said = SLIDERS[name](plan[name]);
      find(name).setAttribute("aria-valuetext", said);
      root.querySelector(`[for=planner-${name}] b`).textContent = said;
    }
    const found = solve(one, plan);
    for (const name in write) {
      const cell = root.querySelector(`[data-of=${name}]`), [middle, low, high] = found[name].map(write[name]);
      cell.dataset.numbers = found[name].join(" ");
      cell.querySelector("b").textContent = middle;
      cell.querySelector("span").textContent = `${low} – ${high}`;
    }
    const share = found.serving[0] / plan.budget;
    root.querySelector(".split i").style.width = `${100 * share}%`;
    root.querySelector(".note").textContent = note(one, found, share);
    draw(one, plan, found);
  }

  const times = x => Number(x.toPrecision(2)).toLocaleString("en");
  const beyond = (x, [low, high]) => x > high ? `${times(x / high)} times the largest` : x < low ? `a ${times(low / x)}th of the smallest` : "";
  function note(one, found, share) {
    const far = [["The size", "size", one.sizes], ["The exposure", "exposure", one.exposures]]
      .map(([word, name, range]) => [word, beyond(found[name][0], range)]).filter(([, far]) => far).map(([word, far]) => `${word} is ${far} that was measured.`);
    const percent = share > 0.995 && share < 1 ? "more than 99" : Math.round(100 * share);
    const factor = found.size[2] / found.size[1];
    const wide = factor > 1000 ? `The runs hardly tell the size: its interval spans a factor of ${factor > 1e6 ? "over a million" : "about " + times(factor)}.` : "";
    return [`Serving takes ${percent}% of the budget.`, ...far, wide, one.status === "converged" ? "" : `The law is ${one.status}.`].join(" ");
  }

  function draw(one, plan, found) {
    const holder = root.querySelector(".curve"), width = Math.max(holder.clientWidth || 640, 260), height = 250;
    const left = 46, right = 8, top = 10, bottom = 34;
    const logs = found.size.map(Math.log), [low, high] = [Math.min(Math.log(one.sizes[0]), logs[0]) - 1.4, Math.max(Math.log(one.sizes[1]), logs[0]) + 1.4];
    const curve = [];
    for (let i = 0; i <= 80; i++) {
      const x = low + (high - low) * i / 80, here = at(one, one.laws[0], plan, x);
      if (here.exposure > -Infinity) curve.push([x, ...valueEnds(one, here.value, one.laws.slice(1).map(law => at(one, law, plan, x).value))]);
    }
    // The frame holds the optimum's interval and the better half of the curve; wilder parts may leave it.
    const worse = curve.map(([, v]) => Math.abs(v - found.value[0])).sort((a, b) => a - b)[Math.floor(curve.length * 0.6)];
    const span = Math.min(Math.max(worse, (found.value[2] - found.value[1]) * 0.8), worse * 6) || 0.1;
    const [bad, good] = one.rising ? [-1, 0.7] : [1, -0.7];
    const frame = [found.value[0] + bad * span, found.value[0] + good * span].sort((a, b) => a - b).map((v, i) => Math.max(one.limits[0] ?? v, one.limits[1] != null ? Math.min(v, one.limits[1]) : v));
    const X = x => left + (x - low) / (high - low) * (width - left - right);
    const Y = v => top + (frame[1] - Math.min(Math.max(v, frame[0] - span), frame[1] + span)) / (frame[1] - frame[0]) * (height - top - bottom);
    const dot = (x, v) => `${X(x).toFixed(1)},${Y(v).toFixed(1)}`, clip = x => Math.min(Math.max(X(x), left), width - right);
    const band = [...curve.map(([x, , lo]) => dot(x, lo)), ...curve.map(([x, , , hi]) => dot(x, hi)).reverse()].join(" ");
    let ticks = "";
    const decades = (high - low) / Math.LN10, every = Math.ceil(decades / (width / 75));
    for (let p = Math.ceil(low / Math.LN10); p * Math.LN10 <= high; p++)
      if (p % every === 0) ticks += `<text x="${X(p * Math.LN10)}" y="${height - bottom + 16}" text-anchor="middle">${p < 18 && p >= 0 ? si(10 ** p) : "1e" + p}</text><path class="grid" d="M${X(p * Math.LN10)} ${top}V${height - bottom}"/>`;
    const rough = (frame[1] - frame[0]) / 3, unit = 10 ** Math.floor(Math.log10(rough)), step = unit * [1, 2, 5, 10].find(n => n * unit >= rough * 0.8);
    for (let v = Math.ceil(frame[0] / step) * step; v <= frame[1]; v += step)
      ticks += `<text x="${left - 6}" y="${Y(v) + 4}" text-anchor="end">${v.toFixed(Math.max(0, -Math.floor(Math.log10(step))))}</text><path class="grid" d="M${left} ${Y(v)}H${width - right}"/>`;
    const from = X(Math.log(one.sizes[0])), to = X(Math.log(one.sizes[1]));
    holder.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Forecast quality against size at this total budget"><clipPath id="planner-frame"><rect x="${left}" y="${top}" width="${width - left - right}" height="${height - top - bottom}"/></clipPath>
<rect class="measured" x="${from}" y="${top}" width="${to - from}" height="${height - top - bottom}"/>${ticks}<g clip-path="url(#planner-frame)"><polygon class="band" points="${band}"/><polyline class="line" points="${curve.map(([x, v]) => dot(x, v)).join(" ")}"/></g>
<path class="reach" d="M${clip(logs[1])} ${Y(found.value[0])}H${clip(logs[2])}"/><circle cx="${X(logs[0])}" cy="${Y(found.value[0])}" r="5.5"/><text x="${(left + width - right) / 2}" y="${height - 3}" text-anchor="middle">${data.words[0]}</text></svg>`;
    root.querySelector("figcaption").firstElementChild.textContent = `${one.name} at this budget${one.rising ? "" : " (lower is better)"}`;
  }

  data.series.forEach((one, i) => {
    one.laws = one.laws.map(law => lawOf(one, law));
    find("series").add(new Option(one.name, i));
  });
  root.querySelector(".live").hidden = false;
  root.addEventListener("input", show);
  addEventListener("resize", show);
  show();
})();
