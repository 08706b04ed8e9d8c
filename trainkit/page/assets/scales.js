// From values to places in a figure and back, and how numbers are written.

const UNITS = [
  [3 * 86400, 86400, "days"],
  [3 * 3600, 3600, "h"],
  [180, 60, "min"],
  [0, 1, "s"],
];

// A scale from the values lo..hi to the places from..to. Logarithmic ones take positive values alone.
function scale({ lo, hi, log = false }, from, to) {
  const turn = log ? Math.log10 : (value) => value;
  const back = log ? (value) => 10 ** value : (value) => value;
  const [first, last] = [turn(lo), turn(hi)];
  const ratio = (to - from) / (last - first);
  return {
    lo,
    hi,
    log,
    at: (value) => from + (turn(value) - first) * ratio,
    back: (place) => back(first + (place - from) / ratio),
  };
}

// Lowest and highest value with a margin; something sensible where there is one value, or none.
function around(values, log, margin) {
  let [lo, hi] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null || !Number.isFinite(value) || (log && value <= 0)) continue;
    if (value < lo) lo = value;
    if (value > hi) hi = value;
  }
  if (lo > hi) [lo, hi] = log ? [0.1, 1] : [0, 1];
  if (log) {
    const spread = lo === hi ? 1 : (hi / lo) ** margin;
    return lo === hi ? { lo: lo / 2, hi: hi * 2, log } : { lo: lo / spread, hi: hi * spread, log };
  }
  const room = lo === hi ? Math.abs(lo) / 2 || 1 : (hi - lo) * margin;
  return { lo: lo - room, hi: hi + room, log };
}

function ticks({ lo, hi, log, whole }, count) {
  return log && hi / lo >= 8 ? logTicks(lo, hi, count) : evenTicks(lo, hi, count, whole);
}

// At least one apart where there are whole numbers alone, such as epochs or members.
function evenTicks(lo, hi, count, whole) {
  const rough = (hi - lo) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const even = power * ([1, 2, 5].find((part) => part * power >= rough * 0.999) ?? 10);
  const step = whole && hi - lo >= 1 ? Math.max(1, even) : even;
  const found = [];
  for (let at = Math.ceil(lo / step - 1e-9); at * step <= hi + step * 1e-9 && found.length < 50; at++)
    found.push(at * step);
  return found.map((value) => [value, tickText(value, step)]);
}

function logTicks(lo, hi, count) {
  const [first, last] = [Math.ceil(Math.log10(lo) - 1e-9), Math.floor(Math.log10(hi) + 1e-9)];
  const stride = Math.max(1, Math.ceil((last - first + 1) / Math.max(2, count)));
  const found = [];
  for (let power = first - 1; power <= last; power++) {
    if (stride > 1 && (power - first) % stride) continue;
    for (const part of last - first < 2 ? [1, 2, 5] : [1]) {
      const value = part * 10 ** power;
      if (value >= lo * 0.999 && value <= hi * 1.001) found.push([value, short(value)]);
    }
  }
  return found;
}

function tickText(value, step) {
  if (Math.abs(value) < step * 1e-6) return "0";
  const size = Math.abs(value);
  // As many digits as tell it from its neighbours.
  const digits = Math.floor(Math.log10(size)) - Math.floor(Math.log10(step) + 1e-9) + 1;
  if (size >= 1e9 || size < 1e-4) return short(value, Math.max(4, Math.min(17, digits)));
  for (const [unit, mark] of [
    [1e6, "M"],
    [1e4, "k"],
  ]) {
    if (size >= unit) {
      const by = mark === "k" ? 1e3 : 1e6;
      return (value / by).toFixed(Math.max(0, -Math.floor(Math.log10(step / by) + 1e-9))) + mark;
    }
  }
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}

// A number to so many digits, as readers write it: 0.9877, 123456, 1.5e-6.
function short(value, digits = 4) {
  if (value === null || value === undefined) return "none";
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e7)) {
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    return `${Number(mantissa)}e${Number(power)}`;
  }
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toFixed(Math.max(0, digits - 1 - Math.floor(Math.log10(size))))));
}

function timeUnit(longest) {
  return UNITS.find(([least]) => longest >= least) ?? UNITS[UNITS.length - 1];
}

function duration(seconds) {
  const [, size, mark] = timeUnit(Math.abs(seconds));
  return `${short(seconds / size)} ${mark}`;
}
