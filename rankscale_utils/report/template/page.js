// What a link leads into is opened; printing opens everything.
const open = place => { for (let at = place; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true; };
const follow = () => { const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1))); if (place) { open(place); place.scrollIntoView(); } };
addEventListener("hashchange", follow);
addEventListener("beforeprint", () => document.querySelectorAll("details.fold").forEach(fold => { fold.open = true; }));
follow();
