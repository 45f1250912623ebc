"""CITATION.cff, codemeta.json and the package say the same of themselves."""

import json
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_codemeta_says_what_the_citation_says():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
    articles = [
        {
            "@type": "ScholarlyArticle",
            "name": article["title"],
            "identifier": article["identifiers"][0]["value"],
            "datePublished": str(article["year"]),
        }
        for article in cited["references"]
    ]
    assert told == {
        "@context": "https://w3id.org/codemeta/3.0",
        "@type": "SoftwareSourceCode",
        "name": cited["title"],
        "identifier": project["name"],
        "version": cited["version"],
        "license": f"https://spdx.org/licenses/{cited['license']}",
        "author": [{"@type": "Organization", "name": author["name"]} for author in cited["authors"]],
        "description": project["description"],
        "keywords": cited["keywords"],
        "programmingLanguage": "Python",
        "runtimePlatform": f"Python {project['requires-python']}",
        "softwareHelp": "docs/",
        "referencePublication": articles,
    }
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
