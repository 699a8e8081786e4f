select page
from {% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}{% endfor %}
  {{ source('shop', 'visits') }}
