// Numbers as a person reads them: times, sizes, lengths. Pure functions.

/** A time of the video: 0:12.50, or 1:02:03.5 with one decimal. */
export function clock(seconds, decimals = 2) {
  const unit = 10 ** decimals;
  const whole = Math.round(Math.max(0, seconds) * unit);
  const total = Math.floor(whole / unit);
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  const rest = String(total % 60).padStart(2, "0");
  const fraction = decimals ? "." + String(whole % unit).padStart(decimals, "0") : "";
  return (hours ? `${hours}:${String(minutes).padStart(2, "0")}` : `${minutes}`) + `:${rest}${fraction}`;
}

/** A length of waiting: 0.4 s, 12 s, 4 min 10 s, 2 h 5 min. */
export function duration(seconds) {
  if (seconds < 9.95) return `${seconds < 0.95 ? seconds.toFixed(1) : +seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min${total % 60 ? ` ${total % 60} s` : ""}`;
  const minutes = Math.round(total / 60);
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** A number of bytes, in decimal units as longtake prints them: 850 kB, 24 MB, 17.2 GB. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 99.95 ? +value.toFixed(value < 9.95 ? 2 : 1) : Math.round(value)} ${units[unit]}`;
}

/** A plain number with at most `decimals` decimals. */
export function number(value, decimals = 1) {
  return String(+value.toFixed(decimals));
}

/** When something was made: the time of day today, else the date. */
export function when(unixSeconds, language, now = new Date()) {
  const date = new Date(unixSeconds * 1000);
  const today = date.toDateString() === now.toDateString();
  const options = today ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" };
  if (!today && date.getFullYear() !== now.getFullYear()) options.year = "numeric";
  return new Intl.DateTimeFormat(language, options).format(date);
}
