select 1
{% if x %}
from y
