// Formatting numbers and times.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const time = new Intl.DateTimeFormat("en", {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const minute = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

const NO_BREAK = "\u00a0";

export const count = (value) => whole.format(value);
export const percent = (value) => `${value < 10 ? oneDigit.format(value) : whole.format(value)}${NO_BREAK}%`;
export const seconds = (value) => `${oneDigit.format(value)}${NO_BREAK}s`;
export const clock = (unix) => time.format(unix * 1000);
export const clockMinute = (unix) => minute.format(unix * 1000);
export const events = (number) => `${count(number)} ${number === 1 ? "event" : "events"}`;

// Memory counts in powers of 1024, networks in powers of 1000.
export const bytes = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
export const rate = (value) => scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]);

export function duration(value) {
  if (value < 60) return seconds(value);
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes}${NO_BREAK}min ${whole.format(Math.floor(value % 60))}${NO_BREAK}s`;
  return `${count(Math.floor(minutes / 60))}${NO_BREAK}h ${minutes % 60}${NO_BREAK}min`;
}

function scaled(value, base, units) {
  let power = 0;
  while (value >= base && power < units.length - 1) {
    value /= base;
    power += 1;
  }
  const digits = power > 0 && value < 10 ? oneDigit : whole;
  return `${digits.format(value)}${NO_BREAK}${units[power]}`;
}
