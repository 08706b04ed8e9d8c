// What stands out too little from what is behind it, with the contrast: WCAG 2.2, 1.4.3 and 1.4.11.
(() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [red, green, blue] = rgb(colour).map((part) => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [a, b] = [luminance(one), luminance(other)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return /, 0\)|transparent/.test(colour) ? behind(node.parentElement) : colour;
  };
  const poor = [];
  const look = (node, ink, paper, least) => {
    const found = contrast(ink, paper);
    if (!(found >= least)) poor.push([node.outerHTML.slice(0, 100), found]);
  };

  const texts = "h1, h2, h3, p, td, th, dt, dd, summary, a, button, figcaption, caption, pre, label, output, .hint";
  for (const node of document.querySelectorAll(texts)) look(node, getComputedStyle(node).color, behind(node), 4.5);
  for (const node of document.querySelectorAll("svg text:not([class*=on-], .span-text)")) {
    look(node, getComputedStyle(node).fill, behind(node.ownerSVGElement.parentElement), 4.5);
  }
  const inks = [...document.querySelectorAll(".axes .on-least, .axes .on-middle, .axes .on-most")];
  if (new Set(inks.map((node) => node.getAttribute("class"))).size < 3) poor.push("not all inks are there");
  for (const node of inks)
    look(node, getComputedStyle(node).fill, getComputedStyle(node.previousElementSibling).fill, 4);
  for (const node of document.querySelectorAll(".legend .sample")) {
    look(node, getComputedStyle(node).color, behind(node.closest("figure")), 3);
  }
  return poor;
})();
