// Small help with the page's elements.

export const $ = (id) => document.getElementById(id);

// An element: make("button", {class: "x", onclick}, "text", child...).
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export const words = (name) => name.replaceAll("_", " ");
export const titled = (name) => words(name)[0].toUpperCase() + words(name).slice(1);
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

let fading = null;
export function complain(error) {
  console.warn(error);
  $("error-text").textContent = error.message ?? String(error);
  $("error").hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => ($("error").hidden = true), 12000);
}

let quiet = null;
export function say(text) {
  $("status").textContent = text;
  clearTimeout(quiet);
  quiet = setTimeout(() => ($("status").textContent = ""), 6000);
}

// A handler that says what went wrong in it.
export const safely = (work) => async (...given) => {
  try {
    return await work(...given);
  } catch (error) {
    complain(error);
  }
};

export async function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function base64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}
